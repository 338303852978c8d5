//! Packs the tree.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::directory;
use super::tree::{Tree, packaging};
use crate::exec::{answer, exec};
use crate::packages::{Need, Present, provide};

/// What packing needs.
const NEEDS: [Need; 3] = [
    Need {
        present: Present::Program("dpkg-shlibdeps"),
        package: "dpkg-dev",
        reason: "it knows which packages bring the libraries",
    },
    Need {
        present: Present::Program("strip"),
        package: "binutils",
        reason: "it takes the debug information out of the program",
    },
    Need {
        present: Present::Program("gzip"),
        package: "gzip",
        reason: "it packs the manual",
    },
];

/// What judging needs.
const LINT_NEEDS: [Need; 1] = [Need {
    present: Present::Program("lintian"),
    package: "lintian",
    reason: "it judges the package",
}];

/// Builds the package of a version and returns where it is.
pub fn build(agent: &Path, version: &str) -> Result<PathBuf> {
    provide(&NEEDS)?;
    let architecture = answer(Command::new("dpkg").arg("--print-architecture"))
        .context("dpkg does not say which architecture this is")?;
    let name = format!("recorder_{version}_{architecture}");
    let date = answer(Command::new("date").args(["-R", "-u"])).context("there is no date")?;
    let changelog = packaging("debian/changelog")?
        .replace("@VERSION@", version)
        .replace("@DATE@", &date);
    let tree = Tree::lay_out(directory().join(&name), agent, &changelog)?;
    sums(&tree)?;
    let control = packaging("debian/control")?
        .replace("@VERSION@", version)
        .replace("@ARCH@", &architecture)
        .replace("@DEPENDS@", &libraries(&tree)?)
        .replace("@SIZE@", &size(&tree)?.to_string());
    tree.write("DEBIAN/control", control.as_bytes())?;
    tree.write(
        "DEBIAN/conffiles",
        packaging("debian/conffiles")?.as_bytes(),
    )?;
    for script in ["postinst", "prerm", "postrm"] {
        let text = packaging(&format!("debian/{script}"))?;
        tree.write_as(&format!("DEBIAN/{script}"), text.as_bytes(), 0o755)?;
    }
    let package = directory().join(format!("{name}.deb"));
    exec(
        Command::new("dpkg-deb")
            .args(["--root-owner-group", "-Zxz", "--build"])
            .arg(tree.root())
            .arg(&package),
    )?;
    Ok(package)
}

/// Lets lintian judge the package: no errors and no warnings.
pub fn lint(package: &Path) -> Result<()> {
    provide(&LINT_NEEDS)?;
    exec(
        Command::new("lintian")
            .args([
                "--allow-root",
                "--fail-on",
                "error,warning",
                "--tag-display-limit",
                "0",
            ])
            .arg(package),
    )
}

/// Writes the checksums of the files.
fn sums(tree: &Tree) -> Result<()> {
    let mut lines = Vec::new();
    for file in tree.files()? {
        let path = file.strip_prefix(tree.root())?;
        // Those have sums of their own, in dpkg's memory.
        if path.starts_with("etc") {
            continue;
        }
        let sum = answer(Command::new("md5sum").arg(&file)).context("md5sum failed")?;
        let (sum, _) = sum.split_once(' ').context("md5sum says nothing")?;
        lines.push(format!("{sum}  {}\n", path.display()));
    }
    tree.write("DEBIAN/md5sums", lines.concat().as_bytes())
}

/// Names the packages that bring the libraries of the program.
fn libraries(tree: &Tree) -> Result<String> {
    let scratch = directory().join("shlibdeps");
    fs::create_dir_all(scratch.join("debian"))?;
    fs::write(
        scratch.join("debian/control"),
        "Source: recorder\n\nPackage: recorder\nArchitecture: any\n",
    )?;
    let found = answer(
        Command::new("dpkg-shlibdeps")
            .current_dir(&scratch)
            .arg("-O")
            .arg(tree.root().join("usr/bin/recorder")),
    )
    .context("dpkg-shlibdeps knows no packages")?;
    let found = found
        .strip_prefix("shlibs:Depends=")
        .context("dpkg-shlibdeps says nothing")?;
    Ok(found.to_owned())
}

/// Returns how many KiB the files take.
fn size(tree: &Tree) -> Result<u64> {
    let mut bytes = 0;
    for file in tree.files()? {
        bytes += fs::metadata(file)?.len().div_ceil(1024);
    }
    Ok(bytes)
}
