//! What the documentation and the examples show is a configuration that loads.

#[path = "support/ocsp.rs"]
mod ocsp;
#[path = "support/pages.rs"]
mod pages;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tidegate::config::{Loaded, load};
use tidegate::node::certs::{self, Wanted};

use pages::examples;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Writes every file of TLS that `text` names, under `dir`.
fn write_certificates(text: &str, dir: &Path) {
    let words = text.split(|c: char| c.is_whitespace() || "{}[],\"".contains(c));
    for file in words.map(|word| dir.join(word.trim_start_matches("./"))) {
        let ending = file.extension().and_then(|ending| ending.to_str()).unwrap_or("");
        if !["crt", "crl", "der"].contains(&ending) || file.exists() {
            continue;
        }
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        match ending {
            "crt" => {
                let names = ["localhost", "www.example.com", "*.example.com"].map(String::from);
                let mut params = rcgen::CertificateParams::new(names).unwrap();
                params.serial_number = Some(vec![1].into());
                let key_pair = rcgen::KeyPair::generate().unwrap();
                fs::write(&file, params.self_signed(&key_pair).unwrap().pem()).unwrap();
                let key = file.with_extension("key");
                fs::write(&key, key_pair.serialize_pem()).unwrap();
                fs::set_permissions(key, fs::Permissions::from_mode(0o600)).unwrap();
            }
            "crl" => fs::write(&file, revocation_list()).unwrap(),
            _ => fs::write(&file, ocsp::response(&[1], ocsp::GOOD, None)).unwrap(),
        }
    }
}

fn revocation_list() -> String {
    let mut params = rcgen::CertificateParams::new([]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::CrlSign];
    let list = rcgen::CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(2020, 1, 1),
        next_update: rcgen::date_time_ymd(2120, 1, 1),
        crl_number: 1.into(),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    let issuer = rcgen::Issuer::new(params, rcgen::KeyPair::generate().unwrap());
    list.signed_by(&issuer).unwrap().pem().unwrap()
}

fn load_text(text: &str) -> Result<Loaded, String> {
    let dir = tempfile::tempdir().unwrap();
    write_certificates(text, dir.path());
    let file = dir.path().join("lb.yaml");
    fs::write(dir.path().join("token"), "secret\n").unwrap();
    let keys = format!("salt {}\nkey 1 {}\n", "7".repeat(32), "5".repeat(64));
    fs::write(dir.path().join("cluster.keys"), keys).unwrap();
    fs::write(&file, text).unwrap();
    load(&file).map_err(|faults| faults.to_string())
}

#[test]
fn every_example_in_the_pages_loads() {
    let mut seen = 0;
    for page in ["README.md", "docs/configuration.md", "docs/operations.md"] {
        for (line, text) in examples(&root().join(page)) {
            seen += 1;
            if let Err(faults) = load_text(&text) {
                panic!("{page}:{line}:\n{faults}");
            }
        }
    }
    assert!(seen >= 6, "only {seen} examples found: have the pages moved?");
}

/// Loads `file` from beside the certificates that its head says how to make.
fn with_certificates(file: &Path) -> Result<Loaded, String> {
    let dir = tempfile::tempdir().unwrap();
    for (to, name) in [("certs", "localhost"), ("certs/other", "other.example.org")] {
        let wanted = Wanted {
            dir: dir.path().join(to),
            clients: 3,
            server_names: vec![name.to_owned()],
            days: 365,
            wrong_ca: false,
            force: false,
        };
        certs::make(&wanted).unwrap();
    }
    let copy = dir.path().join("cluster-configs").join(file.file_name().unwrap());
    fs::create_dir(copy.parent().unwrap()).unwrap();
    fs::copy(file, &copy).unwrap();
    load(&copy).map_err(|faults| faults.to_string())
}

#[test]
fn every_file_in_cluster_configs_loads_and_the_nodes_agree() {
    let mut digests = Vec::new();
    let mut files: Vec<PathBuf> =
        fs::read_dir(root().join("cluster-configs")).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    for file in files.iter().filter(|file| file.extension().is_some_and(|ext| ext == "yaml")) {
        let loaded = if file.ends_with("tls-modes.yaml") {
            with_certificates(file)
        } else {
            load(file).map_err(|faults| faults.to_string())
        };
        let loaded = loaded.unwrap_or_else(|faults| panic!("{faults}"));
        assert_eq!(loaded.warnings, [], "{}", file.display());
        if let Some(cluster) = &loaded.plan.cluster {
            let name = file.file_stem().unwrap().to_string_lossy();
            assert_eq!(*cluster.node_name.0, *name);
            digests.push(loaded.plan.digest);
        }
    }
    assert_eq!(digests.len(), 3);
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
}
