// Loads a trace into Perfetto's own trace processor and prints the rows of queries, one JSON array for each query.
//
// Usage: node trace_processor.js DIRECTORY TRACE SQL...
//
// DIRECTORY has engine_bundle.js and trace_processor.wasm of a release of Perfetto's user interface. The bundle is a web
// worker: here it finds as much of a worker around it as it looks for.

'use strict';

const fs = require('fs');
const path = require('path');
const vm = require('vm');

const [directory, trace, ...queries] = process.argv.slice(2);

// Part of trace_processor.proto: methods, and where a message has them.
const APPEND = 1, FINALIZE = 2, QUERY = 3;
const METHOD = 2, APPEND_DATA = 101, QUERY_ARGS = 103;
const FATAL_ERROR = 5, APPEND_RESULT = 201, QUERY_RESULT = 203;

function varint(number) {
  const bytes = [];
  for (let left = BigInt(number); ; left >>= 7n) {
    if (left < 0x80n) return Buffer.from([...bytes, Number(left)]);
    bytes.push(Number(left & 0x7fn) | 0x80);
  }
}
const number = (field, value) => Buffer.concat([varint(field * 8), varint(value)]);
const bytes = (field, value) => Buffer.concat([varint(field * 8 + 2), varint(value.length), value]);

function* fields(buffer) {
  let at = 0;
  const next = () => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = buffer[at++];
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return BigInt.asIntN(64, value);
    }
  };
  while (at < buffer.length) {
    const key = Number(next());
    let value;
    if ((key & 7) === 0) value = next();
    else if ((key & 7) === 1) { value = buffer.subarray(at, at + 8); at += 8; }
    else { const length = Number(next()); value = buffer.subarray(at, at + length); at += length; }
    yield [key >> 3, value];
  }
}

function* varints(buffer) {
  // A list of numbers, packed, looks like fields without their keys.
  let value = 0n, shift = 0n;
  for (const byte of buffer) {
    value |= BigInt(byte & 0x7f) << shift;
    shift += 7n;
    if (byte < 0x80) { yield BigInt.asIntN(64, value); value = 0n; shift = 0n; }
  }
}

class Rows {
  constructor() { this.columns = []; this.rows = []; this.row = {}; this.column = 0; }
  take(result) {
    for (const [field, value] of fields(result)) {
      if (field === 1) this.columns.push(value.toString());
      if (field === 2 && value.length > 0) throw new Error(value.toString());
      if (field === 3) this.batch(value);
    }
  }
  batch(batch) {
    let types = [], integers = [], floats = [], texts = [];
    for (const [field, value] of fields(batch)) {
      if (field === 1) types = [...varints(value)];
      if (field === 2) integers = [...varints(value)];
      if (field === 3) for (let at = 0; at < value.length; at += 8) floats.push(value.readDoubleLE(at));
      if (field === 5) texts = value.toString().split('\0');
    }
    for (const type of types) {
      const cell = { 1: () => null, 2: () => Number(integers.shift()), 3: () => floats.shift(), 4: () => texts.shift() }[type]();
      this.row[this.columns[this.column++]] = cell;
      if (this.column === this.columns.length) { this.rows.push(this.row); this.row = {}; this.column = 0; }
    }
  }
}

globalThis.self = globalThis;
globalThis.WorkerGlobalScope = class {};
globalThis.importScripts = () => {};
globalThis.location = { href: 'http://worker/engine_bundle.js' };
globalThis.XMLHttpRequest = class {
  open(_, url) { this.url = url; }
  send() {
    const file = fs.readFileSync(path.join(directory, path.basename(this.url)));
    this.status = 200;
    this.response = file.buffer.slice(file.byteOffset, file.byteOffset + file.length);
  }
};
console.warn = () => {};
// The bundle must not take this for Node.
const { exit, stdout } = process;
const done = (error) => { if (error) { console.error(String(error)); exit(1); } };
vm.runInThisContext(`(function (process, require, module, exports) {${fs.readFileSync(path.join(directory, 'engine_bundle.js'))}\n})`)();

const replies = [];
const port = { postMessage(reply) { replies.push(Buffer.from(reply)); } };
globalThis.onmessage({ data: port });

let sequence = 0;
function call(method, ...more) {
  const rpc = Buffer.concat([number(1, sequence++), number(METHOD, method), ...more]);
  replies.length = 0;
  port.onmessage({ data: new Uint8Array(bytes(1, rpc)) });
  const rows = new Rows();
  for (const [, message] of fields(Buffer.concat(replies))) {
    for (const [field, value] of fields(message)) {
      if (field === FATAL_ERROR) throw new Error(value.toString());
      if (field === APPEND_RESULT) for (const [f, v] of fields(value)) if (f === 2 && v.length > 0) throw new Error(v.toString());
      if (field === QUERY_RESULT) rows.take(value);
    }
  }
  return rows.rows;
}

function run() {
  const file = fs.readFileSync(trace);
  for (let at = 0; at < file.length; at += 1 << 20) call(APPEND, bytes(APPEND_DATA, file.subarray(at, at + (1 << 20))));
  call(FINALIZE);
  for (const sql of queries) stdout.write(JSON.stringify(call(QUERY, bytes(QUERY_ARGS, bytes(1, Buffer.from(sql))))) + '\n');
}

setTimeout(() => { try { run(); done(); } catch (error) { done(error); } }, 300);
