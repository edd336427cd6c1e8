//! The names of what is made on a server.

use freehold_model::{Name, Uid, kinds::Slot};

/// The longest database name that is made. Shorter than what engines take, so that an engine can
/// append a suffix of up to 15 bytes for roles it derives.
pub const DATABASE_NAME_BYTES_MAX: usize = 48;

/// The longest login name that is made.
pub const LOGIN_NAME_BYTES_MAX: usize = 63;

/// The database's name on its server: `shop_orders` in the environment `local`, else
/// `prod_shop_orders`.
pub fn database_name(environment: &Name, team: &Name, database: &Name) -> String {
    let _ = (environment, team, database);
    unimplemented!()
}

/// The name of one of the two logins of an access: `shop_orders-api_x3k9q2mz_a`. The uid makes the
/// logins of an access that was deleted and made again differ from the old ones.
pub fn login_name(environment: &Name, team: &Name, access: &Name, uid: Uid, slot: Slot) -> String {
    let _ = (environment, team, access, uid, slot);
    unimplemented!()
}

/// The name of the login that runs a database's migrations: `shop_orders_migrator`.
pub fn migrator_login_name(environment: &Name, team: &Name, database: &Name) -> String {
    let _ = (environment, team, database);
    unimplemented!()
}
