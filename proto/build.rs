//! Turns the folder's `.proto` files into Rust, without an installed protoc.

use std::error::Error;
use std::path::PathBuf;

const FOLDER: &str = "proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={FOLDER}");
    println!("cargo::rustc-check-cfg=cfg(peer_protocol)");

    let mut files = Vec::new();
    for entry in std::fs::read_dir(FOLDER)? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "proto")
        {
            println!("cargo::rerun-if-changed={}", path.display());
            files.push(path);
        }
    }
    files.sort();
    if files.contains(&PathBuf::from(FOLDER).join("peer.proto")) {
        println!("cargo::rustc-cfg=peer_protocol");
    }

    let services = std::env::var_os("CARGO_FEATURE_SERVICES").is_some();
    tonic_prost_build::configure()
        .build_client(services)
        .build_server(services)
        .bytes(".")
        .compile_fds(protox::compile(&files, [FOLDER])?)?;
    Ok(())
}
