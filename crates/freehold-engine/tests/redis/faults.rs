//! A worker killed, failed or put to sleep at every effect, and what the server looks like in the
//! end.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};

use freehold_engine::{
    ConvergeMode, DesiredDatabase, EngineError, EngineHandle, Fault as EngineFault,
};
use freehold_model::{Gate, GateKeeper, InjectedFault, Point, When, kinds::AccessLevel};
use freehold_testing::{
    faults::{Fault, Options, Scenario, Snapshot, WorkError, Worker, check},
    redis::Server,
};

use crate::world::{access, credentials, database, engine, fence, rotate, uid};

/// One server for all worlds: each has a database of its own, named so that all names are of one
/// length and can be made equal in a snapshot.
fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let server = Server::start();
        // The registry is there already: it is made once per server, not once per world.
        let ready = std::thread::scope(|scope| scope.spawn(|| reserve_one(&server)).join());
        ready.expect("the registry is made");
        server
    })
}

fn reserve_one(server: &Server) {
    let engine = engine(server.port(), &server.admin_login());
    let (first, stamp, gate) = (fence(1), crate::world::stamp(9999), Gate::open());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let reserved = runtime
        .expect("a runtime")
        .block_on(engine.reserve("first", &stamp, &first, &gate));
    reserved.expect("a name is reserved");
}

struct Provisioning;

/// Calls the points of every world by the same names.
#[derive(Debug)]
struct Renaming {
    gate: Gate,
    name: String,
}

impl GateKeeper for Renaming {
    fn reach(
        &self,
        point: Point,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<(), InjectedFault>> + Send + '_>> {
        let what = point.what.replace(&self.name, "NAME");
        Box::pin(async move {
            match point.when {
                When::Before => self.gate.before(what).await,
                When::After => self.gate.after(what).await,
            }
        })
    }
}

struct Shop {
    name: String,
    seed: u64,
    epoch: AtomicU64,
}

impl Shop {
    /// Made with slot A open, then rotated to slot B and lowered.
    fn versions(&self) -> [DesiredDatabase; 2] {
        let mut first = database(&self.name);
        first.stamp.uid = uid(self.seed);
        let prefix = format!("{}_app", self.name);
        first.accesses = vec![access(self.seed * 10, &prefix, AccessLevel::ReadWrite)];
        let mut second = first.clone();
        second.accesses[0].level = AccessLevel::ReadOnly;
        rotate(&mut second);
        [first, second]
    }
}

impl Scenario for Provisioning {
    type World = Shop;

    async fn build(&self) -> Shop {
        static NEXT: AtomicU64 = AtomicU64::new(1001);
        let seed = NEXT.fetch_add(1, Ordering::Relaxed);
        Shop {
            name: format!("shop{seed:04}"),
            seed,
            epoch: AtomicU64::new(0),
        }
    }

    async fn work(&self, world: &Shop, worker: Worker) -> Result<(), WorkError> {
        let epoch = world.epoch.fetch_add(1, Ordering::Relaxed) + 1;
        let engine = engine(server().port(), &server().admin_login());
        for _ in 0..20 {
            match attempt(&engine, world, &worker, epoch).await {
                Ok(()) => return Ok(()),
                // Somebody else does the work.
                Err(error) if matches!(error.fault, EngineFault::Fenced { .. }) => return Ok(()),
                Err(error) if error.is_retryable() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err("it never ends".into())
    }

    async fn lapse(&self, _: &Shop) {}

    async fn observe(&self, world: &Shop) -> Snapshot {
        let row = server().run(&["HGETALL", &format!("freehold:database:{}", world.name)]);
        let fields: Vec<&str> = row.lines().collect();
        let field = |name: &str| {
            let pair = fields.chunks(2).find(|pair| pair[0] == name);
            pair.map_or("", |pair| pair[1]).to_owned()
        };
        let same = |line: &str| {
            // Epochs differ with how often somebody began anew, hashes with the world's name.
            let words = line
                .split(' ')
                .filter(|word| !word.starts_with("~epoch=") && !word.starts_with('#'));
            let line = words.collect::<Vec<&str>>().join(" ");
            line.replace(&world.name, "THIS")
                .replace(&field("uid"), "UID")
        };
        let passwords: Vec<String> = ["a", "b"]
            .map(|slot| {
                let login = credentials(&format!("{}_app_{slot}", world.name));
                let key = format!("{}:k", world.name);
                server().run_as(&login, &["GET", &key]).map(|_| ())
            })
            .iter()
            .map(|tried| format!("{}", tried.is_ok()))
            .collect();
        let of_ours = |list: String| -> Vec<String> {
            let lines = list.lines().filter(|line| line.contains(&world.name));
            lines.map(same).collect()
        };
        Snapshot::new()
            .unordered("row", [field("state"), field("unsaved")])
            .unordered("logins", passwords)
            .unordered("accounts", of_ours(server().run(&["ACL", "LIST"])))
            .unordered("kept", of_ours(server().kept_accounts()))
    }
}

async fn attempt(
    engine: &EngineHandle,
    world: &Shop,
    worker: &Worker,
    epoch: u64,
) -> Result<(), EngineError> {
    let [first, second] = world.versions();
    let fence = fence(epoch);
    let gate = Gate::kept_by(Arc::new(Renaming {
        gate: worker.gate.clone(),
        name: world.name.clone(),
    }));
    engine
        .reserve(&world.name, &first.stamp, &fence, &gate)
        .await?;
    for desired in [&first, &second] {
        engine
            .converge(desired, ConvergeMode::Apply, None, &fence, &gate)
            .await?;
    }
    let retired = [format!("{}_app_a", world.name)];
    engine
        .disable_logins(&world.name, &second.stamp, &retired, &fence, &gate)
        .await
}

#[test]
fn a_worker_killed_at_any_effect_leaves_what_the_next_one_completes() {
    let options = Options::from_env().only_faults(&[Fault::Kill]);
    check(&Provisioning, &options).assert_clean();
}

#[test]
fn an_effect_that_fails_before_or_after_it_took_hold_is_done_once() {
    let mut options = Options::from_env().only_faults(&[Fault::FailBefore, Fault::FailAfter]);
    // A failure is a kill that the worker hears of; every other point is enough beside the kills.
    if options.shard == (0, 1) {
        options.shard = (0, 2);
    }
    check(&Provisioning, &options).assert_clean();
}

#[test]
fn a_worker_that_sleeps_through_its_replacement_changes_nothing() {
    let mut options = Options::from_env().only_faults(&[Fault::Sleep]);
    // Each case waits for a lock that a sleeper holds; half of them covers every kind of effect on
    // one side or the other.
    if options.shard == (0, 1) {
        options.shard = (0, 2);
    }
    options.parallel = 6;
    check(&Provisioning, &options).assert_clean();
}
