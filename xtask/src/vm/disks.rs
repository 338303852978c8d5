//! Disks of a guest that fail as hardware does: below the driver, where QEMU stands for the device.

use std::fs::File;
use std::path::Path;

use anyhow::{Context as _, Result};

/// Size of each disk.
const BYTES: u64 = 8 << 20;

/// The sector that cannot be read. The tests know it as well.
const BAD_SECTOR: u64 = 2048;

/// How each disk is attached.
const BUSES: [(&str, &str); 3] = [
    ("virtio", "virtio-blk-pci,werror=report,rerror=report"),
    ("nvme", "nvme,serial=failing"),
    ("scsi", "scsi-hd,bus=failing.0,werror=report,rerror=report"),
];

/// Returns the arguments of QEMU for one disk on each bus, over empty files in `directory`.
pub fn failing(directory: &Path) -> Result<Vec<String>> {
    let mut arguments = vec![
        "-device".to_owned(),
        "virtio-scsi-pci,id=failing".to_owned(),
    ];
    for (name, device) in BUSES {
        let image = directory.join(format!("{name}.img"));
        File::create(&image)
            .and_then(|image| image.set_len(BYTES))
            .with_context(|| format!("create {}", image.display()))?;
        // "none" is no event of the image's format: the error is there from the start and stays.
        let rule = [
            "driver=blkdebug".to_owned(),
            format!("node-name={name}"),
            "image.driver=file".to_owned(),
            format!("image.filename={}", image.display()),
            "inject-error.0.event=none".to_owned(),
            "inject-error.0.iotype=read".to_owned(),
            "inject-error.0.errno=5".to_owned(),
            format!("inject-error.0.sector={BAD_SECTOR}"),
        ];
        arguments.extend(["-blockdev".to_owned(), rule.join(",")]);
        arguments.extend(["-device".to_owned(), format!("{device},drive={name}")]);
    }
    Ok(arguments)
}
