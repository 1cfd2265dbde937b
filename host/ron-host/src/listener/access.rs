//! The access log: a record for each request, when its answer has ended.
//!
//! At the target `access`, so that it is switched on and off, and led elsewhere, apart
//! from all other records. Switched off it costs a look at whether it is.

use std::net::SocketAddr;

use http::{HeaderValue, Method, Request, StatusCode};
use ron_kernel::ServiceId;
use tokio::time::Instant;
use tracing::Level;

const TARGET: &str = crate::logging::ACCESS;

/// What a client that was gone before there was an answer counts as. No answer has it.
const CLIENT_GONE: u16 = 499;

/// The record of one request, written when it is dropped, whatever ended it.
#[derive(Debug)]
pub(super) struct Access(Option<Box<Record>>);

#[derive(Debug)]
struct Record {
    method: Method,
    path: String,
    peer: SocketAddr,
    request_id: HeaderValue,
    begun: Instant,
    service: Option<ServiceId>,
    status: Option<StatusCode>,
    bytes: u64,
    /// All of the answer was given to the connection.
    whole: bool,
}

impl Access {
    pub(super) fn begin<B>(
        request: &Request<B>,
        peer: SocketAddr,
        request_id: &HeaderValue,
    ) -> Self {
        if !tracing::enabled!(target: TARGET, Level::INFO) {
            return Self(None);
        }
        Self(Some(Box::new(Record {
            method: request.method().clone(),
            // What comes after it may hold what is nobody's business.
            path: request.uri().path().to_owned(),
            peer,
            request_id: request_id.clone(),
            begun: Instant::now(),
            service: None,
            status: None,
            bytes: 0,
            whole: false,
        })))
    }

    /// Which service it goes to.
    pub(super) fn service(&mut self, service: &ServiceId) {
        if let Some(record) = &mut self.0 {
            record.service = Some(service.clone());
        }
    }

    /// What it was answered with.
    pub(super) fn status(&mut self, status: StatusCode) {
        if let Some(record) = &mut self.0 {
            record.status = Some(status);
        }
    }

    /// So much more of the answer's body was given to the connection.
    pub(super) fn sent(&mut self, bytes: usize) {
        if let Some(record) = &mut self.0 {
            record.bytes += bytes as u64;
        }
    }

    /// There is no more of the answer to give.
    pub(super) fn whole(&mut self) {
        if let Some(record) = &mut self.0 {
            record.whole = true;
        }
    }
}

impl Drop for Access {
    fn drop(&mut self) {
        let Some(record) = self.0.take() else { return };
        let Record { method, path, peer, request_id, begun, service, status, bytes, whole } =
            *record;
        tracing::info!(
            target: TARGET,
            method = %method,
            path = %path,
            status = status.map_or(CLIENT_GONE, |status| status.as_u16()),
            bytes,
            duration_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX),
            service = service.as_ref().map_or("-", ServiceId::as_str),
            peer = %peer,
            // Said of those alone that are not.
            cut = (!whole).then_some(true),
            request_id = request_id.to_str().unwrap_or_default(),
            "answered"
        );
    }
}
