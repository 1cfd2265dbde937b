//! What is wrong with listeners and the routes from them, though each value alone is
//! right.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use ron_kernel::ServiceId;

use super::check::{join, nearest};
use super::keys::{HTTP, LISTENER, SERVICE, SNI, STREAM};
use super::mistake::{In, Mistake, Place};
use super::whole::Whole;
use crate::plan::{ListenerId, PlannedListener, PlannedPair, PlannedService, PlannedTls, Tls};

impl Whole<'_> {
    pub(super) fn listeners(&mut self) {
        let plan = self.plan;
        let mut bound: BTreeMap<SocketAddr, String> = BTreeMap::new();
        bound.insert(plan.admin, "admin".into());
        if let Some(http) = plan.http {
            self.bound(&mut bound, http, "http");
        }
        self.tls(&plan.admin_tls, "admin_tls");
        for (id, listener) in &plan.listeners {
            let path = join(LISTENER.0, id.as_str());
            if *id == ListenerId::http() && plan.http.is_some() {
                let wrong = "http = ADDRESS or --http makes a listener of this name".to_owned();
                self.wrong_at(&path, wrong, "expected one of the two");
            }
            if *id == ListenerId::admin() {
                let wrong = "this is the name of the admin listener".to_owned();
                self.wrong_at(&path, wrong, "expected another name");
            }
            match listener.bind {
                Some(address) => self.bound(&mut bound, address, &format!("{path}.bind")),
                None => self.missing(&path, "bind", "expected bind = \"ADDRESS:PORT\""),
            }
            self.tls(&listener.tls, &format!("{path}.tls"));
            self.sni(listener, &path);
            self.alpn(id, listener, &path);
        }
    }

    fn bound(&mut self, bound: &mut BTreeMap<SocketAddr, String>, address: SocketAddr, key: &str) {
        if let Some(other) = bound.insert(address, key.to_owned())
            && address.port() != 0
        {
            let wrong = format!("{other} is {address} too");
            self.wrong_at(key, wrong, "expected an address of its own for each listener");
        }
    }

    fn tls(&mut self, tls: &PlannedTls, path: &str) {
        let PlannedTls { pair, client_ca, self_signed } = tls;
        self.pair(pair, path);
        let any = pair.cert.is_some() || pair.key.is_some();
        if any && *self_signed {
            let wrong = "there is a certificate already".to_owned();
            self.wrong_at(&format!("{path}.self_signed"), wrong, "expected one of the two");
        }
        if client_ca.is_some() && !any {
            let wrong = "there is no certificate to show".to_owned();
            self.wrong_at(&format!("{path}.client_ca"), wrong, "expected cert and key besides");
        }
    }

    fn sni(&mut self, listener: &PlannedListener, path: &str) {
        let path = join(path, SNI.0);
        for (host, pair) in &listener.sni {
            let path = join(&path, &host.to_string());
            self.pair(pair, &path);
            if pair.cert.is_none() && pair.key.is_none() {
                let expected = "expected { cert = \"...\", key = \"...\" }";
                self.wrong_at(&path, "there is no certificate".into(), expected);
            } else if listener.tls.pair.cert.is_none() && listener.tls.pair.key.is_none() {
                let wrong = "there is no certificate for those who ask for no name".to_owned();
                self.wrong_at(
                    &path,
                    wrong,
                    "expected tls = { cert = \"...\", key = \"...\" } besides",
                );
            }
        }
    }

    /// One of the two is of no use.
    fn pair(&mut self, pair: &PlannedPair, path: &str) {
        match (&pair.cert, &pair.key) {
            (Some(_), None) => {
                let wrong = "the certificate's key is missing".to_owned();
                self.wrong_at(&format!("{path}.cert"), wrong, "expected key = \"PATH\" besides");
            }
            (None, Some(_)) => {
                let wrong = "the key's certificate is missing".to_owned();
                self.wrong_at(&format!("{path}.key"), wrong, "expected cert = \"PATH\" besides");
            }
            _ => {}
        }
    }

    /// What the listener is for, which the routes from it say.
    fn alpn(&mut self, id: &ListenerId, listener: &PlannedListener, path: &str) {
        if listener.alpn.is_empty() {
            return;
        }
        let path = join(path, "alpn");
        if listener.source() == Tls::None {
            let wrong = "there is no TLS handshake to agree in".to_owned();
            self.wrong_at(&path, wrong, "expected tls = { ... } besides");
        } else if self.plan.is_for_http(id) {
            let wrong = format!("{id} is for HTTP, which offers h2 and http/1.1");
            self.wrong_at(&path, wrong, "expected it on a listener of byte streams");
        }
    }

    /// A service's routes. Two of the same place are told when all are known.
    pub(super) fn routes(&mut self, id: &ServiceId, service: &PlannedService) {
        let service_path = join(SERVICE.0, id.as_str());
        for (index, route) in service.http.iter().enumerate() {
            let path = format!("{}[{index}]", join(&service_path, HTTP.0));
            self.route_from(&path, route.listener.as_ref());
        }
        for (index, route) in service.stream.iter().enumerate() {
            let path = format!("{}[{index}]", join(&service_path, STREAM.0));
            self.route_from(&path, route.listener.as_ref());
            let Some(listener) = &route.listener else { continue };
            if self.plan.is_for_http(listener) {
                let wrong = format!("{listener} is for HTTP");
                let expected = "expected a listener of its own for byte streams";
                self.wrong_at(&format!("{path}.listener"), wrong, expected);
            }
            let own = self.plan.listeners.get(listener);
            if route.host.is_some() && own.is_some_and(|own| own.source() == Tls::None) {
                let wrong = format!("{listener} is in clear, where clients ask for no host");
                let expected = "expected no host, or tls = { ... } of the listener";
                self.wrong_at(&format!("{path}.host"), wrong, expected);
            }
        }
    }

    /// A route leads from a listener that there is.
    fn route_from(&mut self, path: &str, listener: Option<&ListenerId>) {
        let Some(listener) = listener else {
            return self.missing(path, "listener", "expected listener = \"NAME\"");
        };
        let of_http = self.plan.http.is_some() && *listener == ListenerId::http();
        if !of_http && !self.plan.listeners.contains_key(listener) {
            let names: Vec<&str> = self.plan.listeners.keys().map(ListenerId::as_str).collect();
            let expected = match (nearest(listener.as_str(), &names), names.len()) {
                (Some(near), _) => format!("the nearest name is {near:?}"),
                (None, 0) => "expected a [listener.NAME] of that name".into(),
                (None, _) => format!("there is {}", names.join(", ")),
            };
            let wrong = format!("there is no listener named {listener}");
            self.wrong_at(&format!("{path}.listener"), wrong, &expected);
        }
    }

    /// Two routes for the same requests, or for the same connections.
    pub(super) fn twice(&mut self) {
        let mut taken = BTreeMap::new();
        for (id, service) in &self.plan.services {
            for (index, route) in service.http.iter().enumerate() {
                let place = (&route.listener, &route.host, route.path.to_string());
                if let Some(other) = taken.insert(place, id) {
                    let path = format!("{}.{}[{index}]", join(SERVICE.0, id.as_str()), HTTP.0);
                    let host = route.host.as_ref().map_or("any host, ".into(), ToString::to_string);
                    let wrong = format!("{other} takes {host}{} already", route.path);
                    self.wrong_at(
                        &path,
                        wrong,
                        "expected each host and path to lead to one service",
                    );
                }
            }
        }
        let mut taken = BTreeMap::new();
        for (id, service) in &self.plan.services {
            for (index, route) in service.stream.iter().enumerate() {
                if let Some(other) = taken.insert((&route.listener, &route.host), id) {
                    let path = format!("{}.{}[{index}]", join(SERVICE.0, id.as_str()), STREAM.0);
                    let host = route.host.as_ref().map_or("any host".into(), ToString::to_string);
                    let wrong = format!("{other} takes {host} already");
                    self.wrong_at(&path, wrong, "expected each host to lead to one service");
                }
            }
        }
    }

    /// A key that is needed, unless the line that it stands on is wrong in itself.
    fn missing(&mut self, path: &str, key: &str, expected: &str) {
        let own = join(path, key);
        if !self.mistakes.iter().any(|one| one.key == own || one.key.is_empty()) {
            self.wrong_at(path, format!("there is no {key}"), expected);
        }
    }

    /// A mistake where this key was said, or the table that it is in.
    fn wrong_at(&mut self, key: &str, wrong: String, expected: &str) {
        let mut at = key;
        let place = loop {
            match (self.places.get(at), at.rfind(['.', '['])) {
                (Some(place), _) => break place.clone(),
                (None, Some(end)) => at = &at[..end],
                (None, None) => break Place::Flag(at.to_owned()),
            }
        };
        let (key, expected) = (key.to_owned(), expected.to_owned());
        self.mistakes.push(Mistake { is: In::Settings, place, key, wrong, expected });
    }
}
