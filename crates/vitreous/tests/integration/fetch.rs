//! `vitreous data fetch` and its library, against servers that lie, stall and disconnect.
//!
//! The program's checksums belong to real data, which tests do not have, so most tests define a data set of their own.

use std::fs;
use std::io::Write;
use std::process::Output;

use crate::common::{Folder, text};
use crate::mirror::get::*;
use crate::mirror::{Mirror, Request, cut_off, file, stalled, stated, status, unreachable, whole};
use vitreous::advice::Explain;
use vitreous::data_sets::{Content, Download, RemoteFile};

#[test]
fn a_file_is_fetched_once() {
    with_noise(|set, gz| {
        let folder = Folder::new();
        let mirror = Mirror::new({
            let gz = gz.clone();
            move |request, to| file(request, to, &gz)
        });
        let fetched = get(set, &folder, &[&mirror], false).result.unwrap();
        assert_eq!((fetched.fetched, fetched.present), (vec!["noise.gz".to_string()], vec![]));
        assert_eq!(fetched.bytes, gz.len() as u64);
        assert_whole(&folder, &gz);
        let again = get(set, &folder, &[&mirror], false);
        assert_eq!(again.asked(), 0);
        assert_eq!(again.result.unwrap().present, ["noise.gz"]);
        // `train` reads it uncompressed as well.
        fs::remove_file(folder.path("sets/noise/noise.gz")).unwrap();
        fs::write(folder.path("sets/noise/noise"), noise(100_003)).unwrap();
        assert_eq!(get(set, &folder, &[&mirror], false).result.unwrap().present, ["noise.gz"]);
        assert_eq!(mirror.requests().len(), 1);
    });
}

#[test]
fn a_wrong_existing_file_is_replaced_only_by_force() {
    with_noise(|set, gz| {
        let folder = Folder::new();
        let path = folder.path("sets/noise/noise.gz");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mirror = Mirror::new({
            let gz = gz.clone();
            move |request, to| file(request, to, &gz)
        });
        for (bytes, reason) in [
            (b"no gzip".to_vec(), "it holds 7 bytes, not 100,003"),
            (gz[..5000].to_vec(), "the gzip data is cut off"),
            (gzip(&noise(100_004)), "it holds more bytes, not 100,003"),
        ] {
            fs::write(&path, &bytes).unwrap();
            let error = get(set, &folder, &[&mirror], false).result.unwrap_err();
            let expected = format!("this is not the file of noise: {reason} ({})", path.display());
            assert_eq!(error.to_string(), expected);
            assert_eq!(error.hint().unwrap(), "fetch noise.gz again with force, or move the file away");
            assert!(fs::read(&path).unwrap() == bytes, "it stays as it is");
        }
        assert_eq!(mirror.requests().len(), 0);
        get(set, &folder, &[&mirror], true).result.unwrap();
        assert_whole(&folder, &gz);
    });
}

#[test]
fn a_stalled_mirror_is_replaced_by_the_next_which_resumes() {
    with_noise(|set, gz| {
        let folder = Folder::new();
        let silent = Mirror::new(|_, to| stalled(to, b""));
        let (first, second) = (gz.clone(), gz.clone());
        let stalls = Mirror::new(move |_, to| {
            whole(to, first.len(), &first[..30_000]);
            stalled(to, b"");
        });
        let good = Mirror::new(move |request, to| file(request, to, &second));
        let got = get(set, &folder, &[&silent, &stalls, &good], false);
        got.result.as_ref().unwrap();
        assert_eq!(got.reasons(), ["nothing came for 0.25 s"; 2]);
        assert_eq!(good.requests()[0].range.as_deref(), Some("bytes=30000-"));
        assert_whole(&folder, &gz);
    });
}

#[test]
fn an_interrupted_download_resumes() {
    with_noise(|set, gz| {
        let folder = Folder::new();
        let bytes = gz.clone();
        let mirror = Mirror::new(move |request, to| match request.range {
            None => cut_off(to, &bytes, 40_000),
            Some(_) => file(request, to, &bytes),
        });
        let got = get(set, &folder, &[&mirror], false);
        got.result.as_ref().unwrap();
        assert_eq!(got.told, ["asks from 0", "asks from 40000", "checks"]);
        assert_whole(&folder, &gz);
    });
}

#[test]
fn a_fetch_resumes_what_an_earlier_one_left() {
    with_noise(|set, gz| {
        let folder = Folder::new();
        let (first, second) = (gz.clone(), gz.clone());
        let breaks = Mirror::new(move |request, to| match request.range {
            None => cut_off(to, &first, 40_000),
            Some(_) => status(to, "503 Service Unavailable"),
        });
        let got = get(set, &folder, &[&breaks], false);
        assert_eq!(got.reasons(), ["it answers 503 service unavailable"]);
        assert_eq!(names(&folder.path("sets")), ["noise", "noise/noise.gz.part"]);
        let good = Mirror::new(move |request, to| file(request, to, &second));
        get(set, &folder, &[&good], false).result.unwrap();
        let requests: Vec<Option<String>> = good.requests().into_iter().map(|request| request.range).collect();
        assert_eq!(requests, [Some("bytes=40000-".to_string())]);
        assert_whole(&folder, &gz);
    });
}

#[test]
fn a_mirror_that_disconnects_after_every_byte_is_given_up() {
    with_noise(|set, gz| {
        let folder = Folder::new();
        let mirror = Mirror::new(move |request, to| {
            let (from, end) = (request.from(), gz.len());
            let [range, length] =
                [format!("content-range: bytes {from}-{}/{end}", end - 1), format!("content-length: {}", end - from)];
            let status = if request.range.is_some() { "206 Partial Content" } else { "200 OK" };
            stated(to, status, &[&range, &length], &gz[from..from + 1]);
        });
        let got = get(set, &folder, &[&mirror], false);
        let expected =
            ["asks from 0", "asks from 1", "asks from 2", "asks from 3", "asks from 4", "refused it broke off"];
        assert_eq!(got.told, expected);
        assert!(got.result.is_err());
    });
}

#[test]
fn a_mirror_that_ignores_the_range_sends_all_of_it() {
    with_noise(|set, gz| {
        let folder = Folder::new();
        fs::create_dir_all(folder.path("sets/noise")).unwrap();
        fs::write(folder.path("sets/noise/noise.gz.part"), &gz[..40_000]).unwrap();
        let bytes = gz.clone();
        let mirror = Mirror::new(move |_, to| whole(to, bytes.len(), &bytes));
        let got = get(set, &folder, &[&mirror], false);
        assert_eq!(got.told, ["asks from 40000", "checks"]);
        assert_whole(&folder, &gz);
    });
}

#[test]
fn a_mirror_that_sends_the_wrong_range_is_asked_for_the_whole_file() {
    with_noise(|set, gz| {
        let folder = Folder::new();
        fs::create_dir_all(folder.path("sets/noise")).unwrap();
        fs::write(folder.path("sets/noise/noise.gz.part"), &gz[..3000]).unwrap();
        let bytes = gz.clone();
        let mirror = Mirror::new(move |request, to| match request.range {
            Some(_) => {
                let range = format!("bytes 10-{}/{}", bytes.len() - 1, bytes.len());
                crate::mirror::part(to, &range, &bytes[10..]);
            }
            None => whole(to, bytes.len(), &bytes),
        });
        let got = get(set, &folder, &[&mirror], false);
        assert_eq!(got.told, ["asks from 3000", "asks from 0", "checks"]);
        assert_whole(&folder, &gz);
    });
}

#[test]
fn a_partial_download_of_another_file_is_discarded() {
    with_noise(|set, gz| {
        let folder = Folder::new();
        fs::create_dir_all(folder.path("sets/noise")).unwrap();
        let bytes = gz.clone();
        let mirror = Mirror::new(move |request, to| file(request, to, &bytes));
        // Also one that is longer than the file: the mirror says that there is nothing behind it.
        for left in [vec![7; 40_000], vec![7; gz.len() + 10]] {
            fs::write(folder.path("sets/noise/noise.gz.part"), &left).unwrap();
            let got = get(set, &folder, &[&mirror], false);
            assert_eq!(got.told, [&format!("asks from {}", left.len()), "checks", "asks from 0", "checks"]);
            assert_whole(&folder, &gz);
            fs::remove_file(folder.path("sets/noise/noise.gz")).unwrap();
        }
        // A whole one, of which only the name was missing.
        fs::write(folder.path("sets/noise/noise.gz.part"), &gz).unwrap();
        let got = get(set, &folder, &[&mirror], false);
        assert_eq!(got.told, [&format!("asks from {}", gz.len()), "checks"]);
        assert_whole(&folder, &gz);
    });
}

#[test]
fn a_content_length_too_large_costs_one_more_request() {
    with_noise(|set, gz| {
        let folder = Folder::new();
        let bytes = gz.clone();
        let mirror = Mirror::new(move |request, to| match request.range {
            None => whole(to, bytes.len() + 10, &bytes),
            Some(_) => file(request, to, &bytes),
        });
        let got = get(set, &folder, &[&mirror], false);
        assert_eq!(got.told, ["asks from 0", &format!("asks from {}", gz.len()), "checks"]);
        assert_whole(&folder, &gz);
    });
}

#[test]
fn an_absurd_content_length_is_refused_at_once() {
    with_noise(|set, gz| {
        let folder = Folder::new();
        let lies = Mirror::new(|_, to| stated(to, "200 OK", &["content-length: 1099511627776"], b"123"));
        let got = get(set, &folder, &[&lies], false);
        let most = "104,199";
        let expected = format!("it states 1,099,511,627,776 bytes, more than the maximum of {most}");
        assert_eq!(got.reasons(), [expected]);
        assert_nothing(&folder);
        // And a length that is none.
        let none = Mirror::new(|_, to| stated(to, "200 OK", &["content-length: -5"], b"123"));
        let good = Mirror::new(move |request, to| file(request, to, &gz));
        let got = get(set, &folder, &[&none, &good], false);
        assert_eq!((got.reasons().len(), got.result.is_ok()), (1, true));
    });
}

#[test]
fn a_content_length_too_small_is_detected() {
    with_noise(|set, gz| {
        let folder = Folder::new();
        let (first, second) = (gz.clone(), gz.clone());
        let lies = Mirror::new(move |_, to| whole(to, first.len() - 10, &first));
        let got = get(set, &folder, &[&lies], false);
        assert_eq!(got.reasons(), ["the gzip data is cut off"]);
        assert_nothing(&folder);
        let good = Mirror::new(move |request, to| file(request, to, &second));
        get(set, &folder, &[&lies, &good], false).result.unwrap();
        assert_whole(&folder, &gz);
    });
}

#[test]
fn an_endless_stream_is_ended() {
    with_noise(|set, _| {
        let folder = Folder::new();
        let endless = Mirror::new(|_, to| {
            stated(to, "200 OK", &[], b"");
            while to.write_all(&[7; 4096]).is_ok() {}
        });
        let got = get(set, &folder, &[&endless], false);
        assert_eq!(got.reasons(), ["it sends more than 104,199 bytes"]);
        assert_nothing(&folder);
    });
}

#[test]
fn wrong_content_is_refused_and_the_next_mirror_used() {
    with_noise(|set, gz| {
        let folder = Folder::new();
        let mut other = noise(100_003);
        other[50_000] ^= 1;
        let sum = sha256(&other);
        let other = gzip(&other);
        let wrong = Mirror::new(move |request, to| file(request, to, &other));
        let page = Mirror::new(|_, to| whole(to, 12, b"<html></html"));
        let mut damaged = gz.clone();
        damaged[60_000] ^= 0x10;
        let damaged = Mirror::new(move |request, to| file(request, to, &damaged));
        let got = get(set, &folder, &[&wrong, &page, &damaged], false);
        let reasons = got.reasons();
        assert!(reasons[0].starts_with(&format!("the SHA-256 of its content is {sum}, not ")), "{reasons:?}");
        assert_eq!(reasons[1], "the gzip data is damaged: invalid gzip header");
        assert!(reasons[2].contains("damaged") || reasons[2].contains("SHA-256"), "{reasons:?}");
        assert_nothing(&folder);
        let bytes = gz.clone();
        let good = Mirror::new(move |request, to| file(request, to, &bytes));
        get(set, &folder, &[&wrong, &page, &good], false).result.unwrap();
        assert_whole(&folder, &gz);
    });
}

#[test]
fn a_mirror_without_the_file_or_with_endless_redirects_is_skipped() {
    with_noise(|set, gz| {
        let folder = Folder::new();
        let without = Mirror::new(|_, to| status(to, "404 Not Found"));
        let round = Mirror::new(|_, to| stated(to, "302 Found", &["location: /noise.gz", "content-length: 0"], b""));
        let nonsense = Mirror::new(|_, to| to.write_all(b"no http at all\r\n\r\n").unwrap());
        let bytes = gz.clone();
        let moved = Mirror::new(move |request, to| match request.path.as_str() {
            "/noise.gz" => stated(to, "301 Moved Permanently", &["location: /there", "content-length: 0"], b""),
            _ => file(request, to, &bytes),
        });
        let got = get(set, &folder, &[&without, &round, &nonsense, &unreachable(), &moved], false);
        got.result.as_ref().unwrap();
        let reasons = got.reasons();
        let expected = ["it answers 404 not found", "it redirects too often"];
        assert_eq!(reasons[..2], expected);
        assert_eq!((reasons.len(), reasons[3]), (4, "connection refused"));
        assert_eq!(round.requests().len(), 11);
        assert_whole(&folder, &gz);
    });
}

#[test]
fn two_processes_do_not_write_one_file() {
    with_noise(|set, _| {
        let folder = Folder::new();
        fs::create_dir_all(folder.path("sets/noise")).unwrap();
        let path = folder.path("sets/noise/noise.gz.part");
        let held = fs::File::create(&path).unwrap();
        held.lock().unwrap();
        let error = get(set, &folder, &[&unreachable()], false).result.unwrap_err();
        assert_eq!(error.to_string(), format!("another process fetches this file ({})", path.display()));
    });
}

#[test]
fn a_published_checksum_of_compressed_bytes_is_checked_before_unpacking() {
    let gz = gzip(&noise(1009));
    let sum = sha256(&gz);
    let content = Content::File { bytes: gz.len() as u64, sha256: &sum };
    let files = [RemoteFile { name: "a.gz", content }];
    let set = Download { folder: "one", mirrors: &[], files: &files };
    let folder = Folder::new();
    // The right content, compressed in another way: nothing says that it is the right content.
    let other = [&gz[..9], &[gz[9] ^ 1], &gz[10..]].concat();
    let longer = [&gz[..], &[0]].concat();
    let wrong = [other, longer].map(|bytes| Mirror::new(move |request, to| file(request, to, &bytes)));
    let bytes = gz.clone();
    let good = Mirror::new(move |request, to| file(request, to, &bytes));
    let got = get(&set, &folder, &[&wrong[0], &wrong[1], &good], false);
    let reasons = got.reasons().join("; ");
    assert!(reasons.starts_with("the SHA-256 of its content is ") && reasons.contains("; it states "), "{reasons}");
    assert_eq!(got.result.unwrap().fetched, ["a.gz"]);
    assert!(folder.read("sets/one/a.gz") == gz);
    assert_eq!(get(&set, &folder, &[&wrong[0]], false).asked(), 0);
    // An unpacked copy has no known sum: the file is downloaded, and `train` reads it first.
    fs::rename(folder.path("sets/one/a.gz"), folder.path("sets/one/a")).unwrap();
    assert_eq!(get(&set, &folder, &[&good], false).result.unwrap().fetched, ["a.gz"]);
    fs::write(folder.path("sets/one/a.gz"), &gz[..100]).unwrap();
    let error = get(&set, &folder, &[&good], false).result.unwrap_err().to_string();
    let expected =
        format!("this is not the file of one: it holds 100 bytes, not {} (", vitreous::numbers::count(gz.len() as u64));
    assert!(error.starts_with(&expected), "{error}");
}

#[test]
fn a_good_mirror_is_tried_first_for_the_next_file() {
    let content = noise(1009);
    let sum = sha256(&content);
    let gz = gzip(&content);
    let content = Content::Gzip { bytes: 1009, sha256: &sum };
    let files = [RemoteFile { name: "a.gz", content }, RemoteFile { name: "b.gz", content }];
    let set = Download { folder: "two", mirrors: &[], files: &files };
    let folder = Folder::new();
    let without = Mirror::new(|_, to| status(to, "404 Not Found"));
    let good = Mirror::new(move |request, to| file(request, to, &gz));
    get(&set, &folder, &[&without, &good], false).result.unwrap();
    assert_eq!((without.requests().len(), good.requests().len()), (1, 2));
}

/// Runs the program with these variables for proxies.
fn program(folder: &Folder, arguments: &[&str], proxies: &[(&str, &str)]) -> Output {
    let mut command = assert_cmd::Command::cargo_bin("vitreous").unwrap();
    command.current_dir(folder.root()).env_remove("VITREOUS_DATA_DIR").args(["data", "fetch"]).args(arguments);
    for variable in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
        command.env_remove(variable).env_remove(variable.to_lowercase());
    }
    command.envs(proxies.iter().copied()).output().unwrap()
}

#[test]
fn without_a_mirror_the_error_says_what_to_download_by_hand() {
    let folder = Folder::new();
    let (unreachable, without) = (unreachable(), Mirror::new(|_, to| status(to, "404 Not Found")));
    let arguments = ["mnist", "--data-dir", "sets", "--mirror", &unreachable.url, "--mirror", &without.url];
    let output = program(&folder, &arguments, &[]);
    let [first, second] = [&unreachable, &without].map(|mirror| format!("{}train-images-idx3-ubyte.gz", mirror.url));
    let expected = format!(
        "train-images-idx3-ubyte.gz: asking {first}\n\
         note: {first}: connection refused\n\
         train-images-idx3-ubyte.gz: asking {second}\n\
         note: {second}: it answers 404 not found\n\
         error: no mirror has train-images-idx3-ubyte.gz: {}: connection refused; {}: it answers 404 not found \
         (sets/mnist)\n\
         hint: download train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz, \
         t10k-labels-idx1-ubyte.gz yourself from https://ossci-datasets.s3.amazonaws.com/mnist/ and put them into \
         sets/mnist, or name another --mirror\n",
        unreachable.url, without.url
    );
    assert_eq!(text(&output.stderr), expected);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), String::new()));
    let output = program(&folder, &["cifar10", "--mirror", &unreachable.url], &[]);
    let hint = "hint: download https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz yourself and unpack it in ., or name \
                another --mirror\n";
    assert!(text(&output.stderr).ends_with(hint), "{}", text(&output.stderr));
    assert_eq!(names(folder.root()), ["sets"]);
    // No name ends so (RFC 2606).
    let output = program(&folder, &["mnist", "--mirror", "http://mirror.invalid/"], &[]);
    let stderr = text(&output.stderr);
    assert!(stderr.contains("train-images-idx3-ubyte.gz: there is no such host, or no network\n"), "{stderr}");
}

#[test]
fn the_program_skips_wrong_and_silent_mirrors() {
    let folder = Folder::new();
    let wrong = Mirror::new(|request, to| file(request, to, &gzip(b"not images")));
    let silent = Mirror::new(|_, to| stalled(to, b""));
    let arguments = ["fashion-mnist", "--timeout", "0.3", "--mirror", &wrong.url, "--mirror", &silent.url];
    let output = program(&folder, &arguments, &[]);
    let stderr = text(&output.stderr);
    assert!(stderr.contains("idx3-ubyte.gz: it holds 10 bytes, not 47,040,016\n"), "{stderr}");
    assert!(stderr.contains("idx3-ubyte.gz: nothing came for 0.30 s\n"), "{stderr}");
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(names(folder.root()), [""; 0]);
}

#[test]
fn proxy_variables_and_no_proxy_are_respected() {
    let folder = Folder::new();
    // A tunnel to nowhere: what is asked through it is answered by the proxy itself.
    let proxy = Mirror::new(|_: &Request, to| {
        to.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        crate::mirror::read_request(to).unwrap();
        status(to, "410 Gone");
    });
    let arguments = ["mnist", "--mirror", "http://mirror.example/mnist"];
    for variable in ["HTTP_PROXY", "http_proxy", "ALL_PROXY"] {
        let output = program(&folder, &arguments, &[(variable, &proxy.url), ("HTTPS_PROXY", "http://127.0.0.1:1")]);
        let expected = "note: http://mirror.example/mnist/train-images-idx3-ubyte.gz: it answers 410 gone\n";
        assert!(text(&output.stderr).contains(expected), "{variable}: {}", text(&output.stderr));
    }
    let asked: Vec<String> = proxy.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(asked, ["mirror.example:80"; 3]);
    let direct = Mirror::new(|_, to| status(to, "404 Not Found"));
    let proxies = [("HTTP_PROXY", proxy.url.as_str()), ("NO_PROXY", "localhost, 127.0.0.1")];
    let output = program(&folder, &["mnist", "--mirror", &direct.url], &proxies);
    assert!(text(&output.stderr).contains("it answers 404 not found"), "{}", text(&output.stderr));
    assert_eq!((direct.requests().len(), proxy.requests().len()), (1, 3));
    let output = program(&folder, &arguments, &[("HTTP_PROXY", "socks5://user:secret@host")]);
    let expected = "error: the proxy is of a kind that is not supported (HTTP_PROXY)\n\
                    hint: set it to an address such as http://proxy.example.org:3128\n";
    assert_eq!((text(&output.stderr).as_str(), output.status.code()), (expected, Some(2)));
    assert_eq!(names(folder.root()), [""; 0]);
}

#[test]
fn impossible_fetches_are_refused_before_any_request() {
    let folder = Folder::new();
    for (arguments, expected) in [
        (&["mnits"][..], "error: no download for data set `mnits`\nhint: did you mean mnist?\n"),
        (
            &["digits"],
            "error: no download for data set `digits`\n\
             hint: use --data digits: the program draws its images, no download is needed\n",
        ),
        (
            &["mnist", "--mirror", "ftp://a.example/"],
            "error: invalid mirror address `ftp://a.example/` (--mirror)\n\
             hint: use an address such as https://example.org/mnist/\n",
        ),
        (
            &["mnist", "--timeout", "0"],
            "error: invalid timeout of 0 s, must be above 0 and at most a day (--timeout)\nhint: use --timeout 30\n",
        ),
    ] {
        let output = program(&folder, arguments, &[]);
        assert_eq!((text(&output.stderr).as_str(), output.status.code()), (expected, Some(2)));
    }
    assert_eq!(names(folder.root()), [""; 0]);
}
