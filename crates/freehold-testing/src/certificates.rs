//! Certificates made while a test runs: authorities, and servers' certificates that they signed,
//! good ones and those that a client must refuse.
//!
//! Keys are ECDSA over P-256, because it takes a millisecond to make one.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};

/// Who signs certificates.
#[derive(Debug)]
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// What a server shows, and the private key that belongs to it, as PEM.
#[derive(Debug, Clone)]
pub struct Certificate {
    pub chain_pem: String,
    pub key_pem: String,
}

impl Authority {
    /// An authority that nobody has heard of. Those of one name differ in their keys.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, key()).expect("the parameters are valid");
        Self(issuer)
    }

    /// What a client trusts.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for host names and addresses, valid today.
    pub fn certificate(&self, names: &[&str]) -> Certificate {
        self.sign(&params(names))
    }

    /// A certificate that was valid until some years ago.
    pub fn expired(&self, names: &[&str]) -> Certificate {
        let mut params = params(names);
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 1);
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> Certificate {
        let key = key();
        let signed = params.signed_by(&key, &self.0).expect("the key is valid");
        Certificate {
            chain_pem: signed.pem(),
            key_pem: key.serialize_pem(),
        }
    }
}

impl Certificate {
    /// What `openssl req -x509` makes: it vouches for itself, and says that it is an authority.
    pub fn self_signed(names: &[&str]) -> Self {
        let mut params = params(names);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = key();
        let signed = params.self_signed(&key).expect("the key is valid");
        Self {
            chain_pem: signed.pem(),
            key_pem: key.serialize_pem(),
        }
    }
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("the names are valid");
    params
        .distinguished_name
        .push(DnType::CommonName, "a throwaway server");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

fn key() -> KeyPair {
    KeyPair::generate().expect("the operating system always supplies random bytes")
}
