//! Opening a file to read it, without ever waiting for somebody else: a FIFO without a writer would
//! hold up a start, a check and a reload for ever.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Opens the regular file at `path`.
///
/// # Errors
/// It cannot be opened, or is something else: a directory, a FIFO, a socket, a device.
pub fn open(path: &Path) -> io::Result<File> {
    // Before it is opened, for opening alone does something to some devices.
    must_be_regular(&fs::metadata(path)?)?;
    // Another may have taken its place since, so this must not wait, and the answer counts that comes now.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    must_be_regular(&file.metadata()?)?;
    Ok(file)
}

/// Opens what was typed: a regular file, or a pipe that the shell hands over, as `/dev/stdin` or `<(…)`.
///
/// # Errors
/// As [`open`].
pub fn open_typed(path: &Path) -> io::Result<File> {
    let handed_over = path == Path::new("/dev/stdin")
        || ["/dev/fd", "/proc/self/fd"].iter().any(|descriptors| path.starts_with(descriptors));
    if handed_over { File::open(path) } else { open(path) }
}

fn must_be_regular(about: &Metadata) -> io::Result<()> {
    let kind = about.file_type();
    let what = if kind.is_file() {
        return Ok(());
    } else if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    };
    Err(io::Error::other(format!("it is {what}, not a regular file")))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsRawFd as _;
    use std::os::unix::net::UnixListener;
    use std::process::Command;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// What opening `path` says; a wait for somebody else fails the test.
    fn told(path: &Path) -> String {
        let (tell, told) = mpsc::channel();
        let path = path.to_owned();
        std::thread::spawn(move || tell.send([open(&path), open_typed(&path)]));
        let [strict, typed] = told.recv_timeout(Duration::from_secs(20)).expect("it waits");
        let told = strict.unwrap_err().to_string();
        assert_eq!(typed.unwrap_err().to_string(), told);
        told
    }

    #[test]
    fn what_is_no_regular_file_is_refused_by_its_kind_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        assert_eq!(told(&fifo), "it is a FIFO, not a regular file");
        assert_eq!(told(dir.path()), "it is a directory, not a regular file");
        assert_eq!(told(Path::new("/dev/null")), "it is a device, not a regular file");
        let socket = dir.path().join("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        assert_eq!(told(&socket), "it is a socket, not a regular file");
        assert!(told(&dir.path().join("none")).contains("No such file"));
    }

    #[test]
    fn a_file_is_read_through_links_and_a_pipe_when_it_was_typed() {
        let dir = tempfile::tempdir().unwrap();
        let [path, link] = ["file", "link"].map(|name| dir.path().join(name));
        fs::write(&path, "text").unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        let mut text = String::new();
        open(&link).unwrap().read_to_string(&mut text).unwrap();
        open_typed(&path).unwrap().read_to_string(&mut text).unwrap();
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b" of a pipe").unwrap();
        drop(writer);
        let handed = format!("/dev/fd/{}", reader.as_raw_fd());
        assert!(open(Path::new(&handed)).unwrap_err().to_string().contains("a FIFO"));
        open_typed(Path::new(&handed)).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "texttext of a pipe");
    }
}
