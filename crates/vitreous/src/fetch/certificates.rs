//! Reads certificate authorities from a PEM file, and describes what is wrong with a mirror's certificate.

use std::io;
use std::path::Path;

use rustls::CertificateError;
use ureq::tls::{PemItem, RootCerts, parse_pem};

use super::FetchError;
use crate::regular;

/// Largest certificates file that is read, in bytes; that of a whole system has about 250 kB.
const BYTES_MAX: u64 = 16 << 20;

/// Reads the certificates of a PEM file.
///
/// # Errors
/// When it cannot be read, is not a PEM file, or has no certificate.
pub fn read(path: &Path) -> Result<RootCerts, FetchError> {
    let refuse = |reason: &str| FetchError::Certificates { path: path.to_path_buf(), reason: reason.to_string() };
    let bytes = regular::read(path, BYTES_MAX).map_err(|error| FetchError::read(path, &error))?;
    let mut certificates = Vec::new();
    for item in parse_pem(&bytes) {
        match item {
            Ok(PemItem::Certificate(certificate)) => certificates.push(certificate),
            Ok(_) => {}
            Err(_) => return Err(refuse("it is not a PEM file")),
        }
    }
    if certificates.is_empty() {
        return Err(refuse("it has no certificate in PEM form"));
    }
    Ok(RootCerts::from(certificates))
}

/// What is wrong with a mirror's certificate; `None` if the error has another cause.
pub fn certificate_fault(error: &io::Error) -> Option<String> {
    let rustls::Error::InvalidCertificate(fault) = error.get_ref()?.downcast_ref()? else { return None };
    Some(match fault {
        CertificateError::UnknownIssuer => {
            "its certificate is not from a known authority (SSL_CERT_FILE can name others)".to_string()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired, or this machine's clock is wrong".to_string()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet, or this machine's clock is wrong".to_string()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is for another host".to_string()
        }
        other => format!("its certificate is invalid: {other}"),
    })
}
