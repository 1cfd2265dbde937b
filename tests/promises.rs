//! The promises that this repository makes to its users, kept end to end: a
//! module each, through the public surface alone.

mod author;
mod behind_http;
mod cli;
mod conformance;
mod contract;
mod control;
mod front;
mod gateway;
mod harness;
mod http;
mod http_imports;
mod http_service;
mod imports;
mod inspect;
mod jobs;
mod languages;
mod last_good;
mod listeners;
mod loading;
mod messages;
mod messaging;
mod native;
mod outbound;
mod put_back;
mod reload;
mod restart;
mod settings;
mod stream_listeners;
mod streams;
mod swap;
mod tidy;
mod trap_codes;
mod upstream;
mod wasi_0_3;
mod ways_to_die;
