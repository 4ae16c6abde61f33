//! Files of TLS: each is read once for a plan, and again when it changes.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::plan::Plan;
use super::watches::Seen;
use crate::net::tls::{
    Certificate, CertificateFiles, Dated, MaterialError, OriginatePlan, Revoked, Roots, TlsMode,
    Trust,
};

/// What was read: the same files are one certificate, however often they are named.
#[derive(Default)]
pub(super) struct Shelf {
    certificates: HashMap<[Option<PathBuf>; 3], Read<Certificate>>,
    roots: HashMap<PathBuf, Read<Roots>>,
    revoked: HashMap<PathBuf, Read<Revoked>>,
    /// All files that were read or were to be, these and others.
    pub(super) seen: Seen,
}

type Read<T> = Result<Arc<T>, MaterialError>;

impl Shelf {
    pub(super) fn certificate(&mut self, files: CertificateFiles) -> Read<Certificate> {
        let name = [Some(files.cert.clone()), Some(files.key.clone()), files.ocsp.clone()];
        files.paths().for_each(|file| self.seen.note(file));
        let read = || Certificate::read(files).map(Arc::new);
        self.certificates.entry(name).or_insert_with(read).clone()
    }

    pub(super) fn roots(&mut self, file: PathBuf) -> Read<Roots> {
        self.seen.note(&file);
        let read = |file: &PathBuf| Roots::read(file.clone()).map(Arc::new);
        self.roots.entry(file).or_insert_with_key(read).clone()
    }

    pub(super) fn revoked(&mut self, file: PathBuf) -> Read<Revoked> {
        self.seen.note(&file);
        let read = |file: &PathBuf| Revoked::read(file.clone()).map(Arc::new);
        self.revoked.entry(file).or_insert_with_key(read).clone()
    }
}

impl Plan {
    /// Every file of TLS in use, each once.
    pub fn material_files(&self) -> Vec<PathBuf> {
        let mut files = BTreeSet::new();
        each_material(&mut self.clone(), |material| match material {
            Material::Certificate(held) => files.extend(held.files.paths().map(Path::to_path_buf)),
            Material::Roots(held) | Material::Pinned(held) => {
                files.insert(held.file.clone());
            }
            Material::Revoked(held) => drop(files.insert(held.file.clone())),
        });
        files.into_iter().collect()
    }

    /// All in use that holds for a time alone, each once.
    pub fn dated(&self) -> Vec<Dated> {
        let mut found: Vec<Dated> = Vec::new();
        let mut known = HashMap::new();
        let mut add = |dated: Dated| {
            let Dated { kind, file, name, serial, until_ms, .. } = &dated;
            match known.entry((*kind, file.clone(), name.clone(), serial.clone())) {
                // A bundle may hold a certificate twice, and several that are called alike: who ends
                // first is told of.
                Entry::Occupied(at) => {
                    let known: &mut Dated = &mut found[*at.get()];
                    if *until_ms < known.until_ms {
                        *known = dated;
                    }
                }
                Entry::Vacant(at) => {
                    at.insert(found.len());
                    found.push(dated);
                }
            }
        };
        each_material(&mut self.clone(), |material| match material {
            Material::Certificate(held) => held.dated().for_each(&mut add),
            Material::Roots(held) => held.dated().for_each(&mut add),
            Material::Revoked(held) => held.dated().for_each(&mut add),
            Material::Pinned(_) => {}
        });
        found
    }

    /// The same plan with its files of TLS read anew.
    ///
    /// # Errors
    /// Every file that is of no use now, each once.
    pub fn read_material_again(&self) -> Result<Plan, Vec<MaterialError>> {
        let mut plan = self.clone();
        let mut shelf = Shelf::default();
        let mut faults: Vec<MaterialError> = Vec::new();
        each_material(&mut plan, |material| {
            let read = match material {
                Material::Certificate(held) => {
                    shelf.certificate(held.files.clone()).map(|new| *held = new)
                }
                Material::Roots(held) | Material::Pinned(held) => {
                    shelf.roots(held.file.clone()).map(|new| *held = new)
                }
                Material::Revoked(held) => shelf.revoked(held.file.clone()).map(|new| *held = new),
            };
            faults.extend(read.err().filter(|fault| !faults.contains(fault)));
        });
        if faults.is_empty() { Ok(plan) } else { Err(faults) }
    }
}

/// Something that was read from files.
enum Material<'a> {
    Certificate(&'a mut Arc<Certificate>),
    Roots(&'a mut Arc<Roots>),
    /// Of which no date counts.
    Pinned(&'a mut Arc<Roots>),
    Revoked(&'a mut Arc<Revoked>),
}

/// Goes through all that a plan holds of files; what was shared stays shared.
fn each_material(plan: &mut Plan, mut visit: impl FnMut(Material<'_>)) {
    for rule in &mut plan.rules {
        if let Some(TlsMode::Terminate(tls)) = rule.tls.as_mut().map(|tls| &mut tls.mode) {
            for served in &mut tls.certificates {
                visit(Material::Certificate(&mut served.certificate));
            }
            if let Some(clients) = &mut tls.clients {
                visit(Material::Roots(&mut clients.ca));
                clients.crl.iter_mut().for_each(|crl| visit(Material::Revoked(crl)));
            }
        }
        let mut done: HashMap<*const OriginatePlan, Arc<OriginatePlan>> = HashMap::new();
        let of_backends = rule.pool.backends.iter_mut().filter_map(|backend| backend.tls.as_mut());
        for tls in of_backends.chain(rule.pool.tls.as_mut()) {
            let renewed = done.entry(Arc::as_ptr(tls)).or_insert_with(|| {
                let mut plan = OriginatePlan::clone(tls);
                plan.certificate.iter_mut().for_each(|held| visit(Material::Certificate(held)));
                match &mut plan.trust {
                    Trust::Roots(roots) => visit(Material::Roots(roots)),
                    Trust::Pinned(pinned) => visit(Material::Pinned(pinned)),
                    Trust::System | Trust::Anybody => {}
                }
                Arc::new(plan)
            });
            *tls = Arc::clone(renewed);
        }
    }
}
