//! Whose certificates upstreams may have.

use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// The largest file of certificates, in bytes.
const LARGEST: u64 = 4 << 20;

/// Who is trusted.
#[derive(Clone)]
pub struct Trust(ClientConfig);

impl Trust {
    /// The well-known authorities, and those of a PEM file beside them.
    ///
    /// # Errors
    /// When the file cannot be read or holds no certificate.
    pub fn load(file: Option<&Path>) -> Result<Self> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        if let Some(file) = file {
            add(&mut roots, file).with_context(|| format!("--upstream-ca {}", file.display()))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        Ok(Self(config.with_root_certificates(roots).with_no_client_auth()))
    }

    pub(super) fn config(&self) -> ClientConfig {
        self.0.clone()
    }
}

fn add(roots: &mut RootCertStore, file: &Path) -> Result<()> {
    ensure!(std::fs::metadata(file)?.len() <= LARGEST, "it has more than {LARGEST} bytes");
    let mut found = 0;
    for certificate in CertificateDer::pem_file_iter(file)? {
        roots.add(certificate.context("it is not PEM")?)?;
        found += 1;
    }
    ensure!(found > 0, "there is no certificate in it");
    Ok(())
}

/// What is wrong with a certificate, if it is that which an error is about.
pub(super) fn distrust<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found @ rustls::Error::InvalidCertificate(_)) = error.downcast_ref() {
            return Some(found);
        }
        // Its own source is that of what it holds.
        let held = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = held.map(|held| held as &(dyn Error + 'static)).or_else(|| error.source());
    }
    None
}
