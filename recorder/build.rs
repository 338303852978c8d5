//! Compiles the Protobuf schema and embeds the BPF object.

use std::path::{Path, PathBuf};
use std::{env, error, fs};

use protox::prost_reflect::prost_types::{
    FileDescriptorProto, FileDescriptorSet, field_descriptor_proto::Type,
};

const PROTO: &str = "recorder/v1/events.proto";
const STUB: &[u8] = b"STUB: built without the BPF object";

fn main() -> Result<(), Box<dyn error::Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    schema(&out)?;
    objects(&out)
}

/// Generates the message types, and the descriptor sets that dumps embed.
fn schema(out: &Path) -> Result<(), Box<dyn error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile([PROTO], ["proto"])?;

    for file in &descriptors.file {
        for message in &file.message_type {
            let set = descriptor_set(file, message.name());
            let path = out.join(format!("{}.binpb", message.name()));
            fs::write(path, prost::Message::encode_to_vec(&set))?;
        }
    }

    let mut config = prost_build::Config::new();
    config.type_attribute(".", "#[derive(serde::Serialize)]");
    json(&mut config, &descriptors);
    config.compile_fds(descriptors)?;
    Ok(())
}

/// Returns the schema of one message: itself and what it refers to, without comments. A dump carries it for each topic.
fn descriptor_set(file: &FileDescriptorProto, message: &str) -> FileDescriptorSet {
    let mut needed = vec![message];
    let mut next = 0;
    while let Some(name) = needed.get(next).copied() {
        next += 1;
        let fields = file
            .message_type
            .iter()
            .filter(|message| message.name() == name)
            .flat_map(|message| &message.field);
        for field in fields {
            let name = field.type_name().rsplit('.').next().unwrap_or_default();
            if !name.is_empty() && !needed.contains(&name) {
                needed.push(name);
            }
        }
    }
    let mut file = file.clone();
    file.message_type
        .retain(|message| needed.contains(&message.name()));
    file.source_code_info = None;
    FileDescriptorSet { file: vec![file] }
}

/// Makes the JSON form of a message leave out what is unknown, and write addresses and bytes in hex.
fn json(config: &mut prost_build::Config, descriptors: &FileDescriptorSet) {
    config.field_attribute(
        ".",
        "#[serde(skip_serializing_if = \"crate::event::json::Absent::is_absent\")]",
    );
    for file in &descriptors.file {
        for message in &file.message_type {
            for field in &message.field {
                let form = match (field.r#type(), field.type_name()) {
                    (Type::Fixed64, _) => "address",
                    (Type::Bytes, _) => "bytes",
                    (Type::Message, ".recorder.v1.Register") => "registers",
                    _ => continue,
                };
                config.field_attribute(
                    format!(".{}.{}.{}", file.package(), message.name(), field.name()),
                    format!("#[serde(serialize_with = \"crate::event::json::{form}\")]"),
                );
            }
        }
    }
}

/// Copies the BPF objects that `cargo xtask build` made, or stubs that the agent recognises and explains.
fn objects(out: &Path) -> Result<(), Box<dyn error::Error>> {
    println!("cargo::rerun-if-env-changed=RECORDER_BPF_OBJECT");
    let path = env::var_os("RECORDER_BPF_OBJECT").map(PathBuf::from);
    for name in ["recorder.bpf.o", "recorder-untyped.bpf.o"] {
        let object = match &path {
            Some(path) => {
                let path = path.with_file_name(name);
                println!("cargo::rerun-if-changed={}", path.display());
                fs::read(path)?
            }
            None => STUB.to_vec(),
        };
        fs::write(out.join(name), object)?;
    }
    Ok(())
}
