//! The kernel without WebAssembly: two native services under supervision.
//!
//! `cargo run --package native`, and Ctrl-C to stop. Each third greeting panics;
//! the supervisor catches it, says why, and starts a fresh `Hello`.

use std::time::Duration;

use ron_kernel::service::Crash;
use ron_kernel::{Context, Incoming, Kernel, KernelEvent, Service};
use ron_kernel::{ServiceId, ServiceSpec, Supervisor, wait_for_ctrl_c};

#[derive(Default)]
struct Hello {
    greetings: u32,
}

impl Service for Hello {
    async fn run(&mut self, context: &mut Context) -> Result<(), Crash> {
        context.subscribe("hello.greet").expect("the topic is well formed");
        context.started();
        loop {
            match context.next().await {
                Incoming::Stop => return Ok(()),
                Incoming::Event(_) => {}
                Incoming::Message(message) => {
                    self.greetings += 1;
                    assert!(self.greetings < 3, "three greetings are too many");
                    message.answer(format!("Hello for the {}. time", self.greetings).into());
                }
            }
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let kernel = Kernel::new();
    let supervisor = Supervisor::new(kernel.clone());
    let (address, _server) = kernel.metrics().serve("127.0.0.1:0").await?;
    println!("http://{address}/metrics");

    let mut events = kernel.bus().subscribe();
    supervisor.add(ServiceSpec::new(ServiceId::parse("hello")?), Hello::default)?;

    let mut publisher = kernel.router().publisher("main", Default::default());
    let mut second = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = wait_for_ctrl_c() => break,
            _ = second.tick() => println!("{:?}", publisher.request("hello.greet", "".into())?.await),
            Ok(KernelEvent::ServiceCrashed { service, reason }) = events.recv() => {
                println!("{service} crashed: {reason}");
            }
        }
    }
    supervisor.shut_down(Duration::from_secs(5)).await;
    Ok(())
}
