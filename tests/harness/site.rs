//! A service that answers HTTP, and the way to it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use ron_kernel::ServiceSpec;
use ron_kernel::supervisor::{Cut, SwapOptions};
use ron_runtime::{AnyService, Component, Gate, Grants, Limits, Response, Unanswered};
use tokio::sync::mpsc;

use super::{Rig, id, spec, within};

/// A rig with a component as the service `web`, and the gate that leads to it.
pub(crate) struct Site {
    pub(crate) rig: Rig,
    pub(crate) gate: Gate,
    limits: Limits,
    grants: Arc<Grants>,
}

impl Site {
    /// With that component under default limits and settings.
    pub(crate) async fn of(component: &str) -> Self {
        Self::with(component, Limits::default(), spec("web")).await
    }

    pub(crate) async fn with(component: &str, limits: Limits, spec: ServiceSpec) -> Self {
        Self::granted(component, limits, spec, Grants::default()).await
    }

    pub(crate) async fn granted(
        component: &str,
        limits: Limits,
        spec: ServiceSpec,
        grants: Grants,
    ) -> Self {
        let site = Self { rig: Rig::new(), gate: Gate::new(), limits, grants: grants.into() };
        let make = site.make(site.rig.load(component));
        let spec = ServiceSpec { id: id("web"), ..spec };
        site.rig.supervisor.add_on(site.rig.runtime.handle(), spec, make).expect("a new service");
        site.rig.until("web", "running").await;
        site
    }

    /// What makes an incarnation with that component.
    pub(crate) fn make(&self, component: Component) -> impl FnMut() -> AnyService + Send + 'static {
        let (limits, gate) = (self.limits.clone(), self.gate.clone());
        let grants = Arc::clone(&self.grants);
        move || AnyService::new(component.clone(), limits.clone(), Arc::clone(&grants), &gate)
    }

    /// Swaps the service to that component under another version.
    pub(crate) async fn swap(&self, component: &str, version: &str) -> Cut {
        let make = self.make(self.rig.load(component));
        let (id, options) = (id("web"), SwapOptions::default());
        let swapped = self.rig.supervisor.swap(&id, version.into(), make, options);
        within(swapped).await.expect("swapped")
    }

    /// The answer's head.
    pub(crate) async fn ask(&self, request: Request<Full<Bytes>>) -> Result<Response, Unanswered> {
        within(self.gate.handle(request, "r-1")).await
    }

    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(u16, String), Unanswered> {
        let response = self.ask(request).await?;
        let status = response.status().as_u16();
        let body = within(response.into_body().collect()).await.expect("the whole body");
        let body = String::from_utf8(body.to_bytes().to_vec()).expect("text");
        Ok((status, body))
    }

    /// Uploads a part, and goes away before the rest; the answer's head, if there is one.
    pub(crate) async fn break_off(&self, path: &str, part: &str) -> Result<Response, Unanswered> {
        let request = Request::post(format!("http://site.example{path}"));
        let request = request.body(BrokenOff(Some(part.to_owned().into())));
        within(self.gate.handle(request.expect("a request"), "r-1")).await
    }

    /// Instances that clients have cost the service.
    pub(crate) fn abandoned(&self) -> u64 {
        self.gate.abandoned().expect("it has instances")
    }

    /// Does that again until an instance has ended in a trap; how many of these were
    /// crashes.
    pub(crate) async fn until_lost(&self, mut again: impl AsyncFnMut()) -> usize {
        within(async {
            loop {
                again().await;
                // It may be on its way.
                for _ in 0..1000 {
                    let crashes = self.rig.supervisor.crashes(&id("web")).len();
                    if self.abandoned() > 0 || crashes > 0 {
                        return crashes;
                    }
                    tokio::task::yield_now().await;
                }
            }
        })
        .await
    }

    pub(crate) async fn get(&self, path: &str) -> Result<(u16, String), Unanswered> {
        self.send(get_request(path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> Result<(u16, String), Unanswered> {
        let request = Request::post(format!("http://site.example{path}"));
        self.send(request.body(Full::from(body.to_owned())).expect("a request")).await
    }
}

/// A body that breaks after its first part.
struct BrokenOff(Option<Bytes>);

impl Body for BrokenOff {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Poll::Ready(Some(match self.0.take() {
            Some(part) => Ok(Frame::data(part)),
            None => Err(io::ErrorKind::ConnectionReset.into()),
        }))
    }
}

/// A body that comes as the test sends it.
pub(crate) struct Slow(pub(crate) mpsc::Receiver<Bytes>);

impl Body for Slow {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

pub(crate) fn get_request(path: &str) -> Request<Full<Bytes>> {
    let request = Request::get(format!("http://site.example{path}"));
    request.body(Full::default()).expect("a request")
}
