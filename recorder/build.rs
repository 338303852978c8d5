//! Compiles the Protobuf schema and embeds the BPF object.

use std::path::{Path, PathBuf};
use std::{env, error, fs};

use protox::prost_reflect::prost_types::{
    FileDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
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
    // Rare, and large: every event has room for the largest message.
    config.boxed(".recorder.v1.SignalFatal.asked");
    json(&mut config, &descriptors);
    let reflection: String = descriptors.file.iter().map(reflection).collect();
    fs::write(out.join("reflect.rs"), reflection)?;
    config.compile_fds(descriptors)?;
    Ok(())
}

/// Returns the fields of all messages by name, type and documentation, and the code that reads them.
fn reflection(file: &FileDescriptorProto) -> String {
    let position = |type_name: &str| {
        let name = type_name.rsplit('.').next();
        let mut messages = file.message_type.iter();
        messages.position(|message| Some(message.name()) == name)
    };
    let documentation = |path: &[i32]| {
        let locations = file.source_code_info.iter().flat_map(|info| &info.location);
        let mut at = locations.filter(|location| location.path == path);
        let text = at.next().map_or("", |location| location.leading_comments());
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        lines.join(" ").trim().to_owned()
    };
    let (mut table, mut code) = (String::new(), String::new());
    for (number, message) in (0..).zip(&file.message_type) {
        let (mut fields, mut arms) = (String::new(), String::new());
        for (index, field) in (0..).zip(&message.field) {
            let (kind, one) = match field.r#type() {
                Type::Bool => ("Bool".to_owned(), "Field::Bool(*value)"),
                Type::Int32 | Type::Int64 => {
                    ("Integer".to_owned(), "Field::Integer((*value).into())")
                }
                Type::Uint32 | Type::Uint64 | Type::Fixed64 => {
                    ("Integer".to_owned(), "Field::Integer((*value).into())")
                }
                Type::Double => ("Fraction".to_owned(), "Field::Fraction(*value)"),
                Type::String => ("Text".to_owned(), "Field::Text(value)"),
                Type::Bytes => ("Bytes".to_owned(), "Field::Bytes(value)"),
                Type::Message => {
                    let position = position(field.type_name()).unwrap_or_default();
                    (format!("Message({position})"), "Field::Message(value)")
                }
                other => panic!("{}: no code for {other:?}", field.name()),
            };
            let is_list = field.label() == Label::Repeated;
            let read = match (is_list, field.r#type()) {
                (true, Type::Message) => format!("Field::Messages(&self.{})", field.name()),
                (true, _) => format!("Field::Texts(&self.{})", field.name()),
                (false, _) => format!(
                    "match &self.{} {{ Some(value) => {one}, None => Field::Absent }}",
                    field.name()
                ),
            };
            arms += &format!("            {index} => {read},\n");
            fields += &format!(
                "FieldType {{ name: {:?}, kind: Kind::{kind}, is_list: {is_list}, is_address: {}, documentation: {:?} }}, ",
                field.name(),
                field.r#type() == Type::Fixed64,
                documentation(&[4, number, 2, index])
            );
        }
        table += &format!(
            "    MessageType {{ name: {:?}, documentation: {:?}, fields: &[{fields}] }},\n",
            message.name(),
            documentation(&[4, number])
        );
        code += &format!(
            "impl Reflect for proto::{name} {{\n    fn message_type(&self) -> &'static MessageType {{ &MESSAGES[{number}] }}\n    \
             fn field(&self, index: usize) -> Field<'_> {{\n        match index {{\n{arms}            _ => Field::Absent,\n        }}\n    }}\n}}\n",
            name = message.name()
        );
    }
    let count = file.message_type.len();
    format!(
        "/// Every message of the schema.\npub static MESSAGES: [MessageType; {count}] = [\n{table}];\n{code}"
    )
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
