//! The published Dockerfile, unmodified, built on a base image that is made here when none can be
//! pulled (tests/e2e/base-images).

use std::process::Command;
use std::time::Duration;

use crate::harness::{Need, report, repository, run, turn, until};

const IMAGE: &str = "tidegate:e2e-multistage";
const CONTAINER: &str = "tidegate-e2e-multistage";

/// Container and image, gone on drop. (The layers stay in the builder's cache.)
struct Built;

impl Drop for Built {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rm", "--force", CONTAINER]).output();
        let _ = Command::new("docker").args(["rmi", "--force", IMAGE]).output();
    }
}

#[track_caller]
fn docker(arguments: &[&str], limit: u64) -> String {
    run(Command::new("docker").args(arguments), Duration::from_secs(limit))
}

#[test]
#[ignore = "needs docker, root, debootstrap and the registry; takes minutes: run with cargo test --test e2e -- --ignored"]
fn the_dockerfile_gives_a_small_image_that_runs_as_nobody_and_is_healthy() {
    let needs = [Need::Root, Need::Docker, Need::Tool("debootstrap", "debootstrap")];
    let Some(_turn) = turn(&needs) else { return };
    let _built = Built;
    let bases = repository().join("tests/e2e/base-images");
    run(&mut Command::new(&bases), Duration::from_secs(300));
    let start = std::time::Instant::now();
    run(
        Command::new("docker")
            .args(["build", "--file", "deploy/Dockerfile", "--tag", IMAGE, "."])
            .current_dir(repository()),
        Duration::from_secs(1500),
    );
    let size: u64 =
        docker(&["image", "inspect", "--format", "{{.Size}}", IMAGE], 20).trim().parse().unwrap();
    report(&format!("image of {:.1} MB built in {:.0?}", size as f64 / 1e6, start.elapsed()));
    assert!(size < 30_000_000, "{size} bytes");
    let user = docker(&["image", "inspect", "--format", "{{.Config.User}}", IMAGE], 20);
    assert_eq!(user.trim(), "65532:65532");
    assert!(docker(&["run", "--rm", IMAGE, "--version"], 30).starts_with("tidegate "));

    // Nothing is published and no backend is there: the node is ready all the same.
    let configs = format!("{}:/etc/tidegate:ro", repository().join("cluster-configs").display());
    let config = "/etc/tidegate/single.yaml";
    let begin = ["run", "--detach", "--name", CONTAINER, "--volume", &configs, IMAGE];
    docker(&[&begin[..], &["run", "--config", config]].concat(), 30);
    until("docker calls it healthy", Duration::from_secs(30), || {
        let state = docker(&["inspect", "--format", "{{.State.Health.Status}}", CONTAINER], 20);
        (state.trim() == "healthy").then_some(())
    });
    docker(&["stop", "--time", "20", CONTAINER], 40);
    let code = docker(&["inspect", "--format", "{{.State.ExitCode}}", CONTAINER], 20);
    assert_eq!(code.trim(), "0", "docker stop drains");
}
