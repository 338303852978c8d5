// What the report says in words and tables.

/** Makes a section; without content there is none. */
function section(id, title, ...content) {
  const shown = content.flat(3).filter(Boolean);
  if (shown.length === 0) return null;
  return h("section", { id, "aria-labelledby": `${id}-title` }, h("h2", { id: `${id}-title` }, title), shown);
}

const named = (process) => {
  if (!process) return undefined;
  const name = process.comm ?? "process";
  return process.pid === undefined ? name : `${name}[${process.pid}]`;
};

/** A link to an event of this page. */
function eventLink(page, order, text) {
  const link = h("a", { href: `#event=${order}` }, text ?? `#${order}`);
  link.addEventListener("click", (event) => {
    event.preventDefault();
    page.choose(page.events.find(order), true);
  });
  return link;
}

function factsSection(report) {
  const { incident, host, subject, recording } = report;
  const process = subject.process ?? {};
  const parents = (process.parents ?? []).map(named);
  const user = [process.user, process.uid === undefined ? null : `uid ${process.uid}`, process.loginuid === undefined ? null : `logged in as uid ${process.loginuid}`];
  const usage = subject.usage;
  const facts = [
    ["When", report.time],
    ["Host", host && `${host.hostname} (Linux ${host.kernel_release} ${host.architecture}, ${plural(host.cpus, "CPU")})`],
    ["Environment", host?.environment],
    ["Subject", subject.name],
    ["Service", process.unit],
    ["Container", process.container_id && [process.runtime, process.container_id].filter(Boolean).join(" ")],
    ["Pod", process.pod_uid],
    ["Ran", (subject.command ?? []).join(" ")],
    ["Executable", process.exe],
    ["Build ID", process.exe_build_id],
    ["Started by", (parents.length > 0 ? parents : subject.parents ?? []).join(" ← ")],
    ["User", user.filter(Boolean).join(", ")],
    ["Cgroup", process.cgroup],
    ["Started", subject.started],
    ["Ended", usage && `${usage.end}${usage.lifetime_ns === undefined ? "" : ` after ${duration(usage.lifetime_ns)}`}; CPU ${duration(usage.cpu_ns)}, ${bytes(usage.max_rss_bytes)} of memory at most`],
    ["Rule", incident?.rule],
    ["Severity", incident?.severity],
    ["Tags", (incident?.tags ?? []).join(", ")],
    ["Reason given", incident?.reason],
    ["Further triggers", incident?.followers || null],
    ["Suppressed before", incident?.suppressed_before || null],
    ["Window", recording.from && `${recording.from} to ${recording.to}`],
    ["Incident", incident?.id],
    ["Dump", recording.file],
  ];
  const rows = facts.filter(([, value]) => value !== undefined && value !== null && value !== "" && value !== false);
  return section("facts", "Facts", h("dl", { class: "facts" }, rows.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])));
}

function causeSection(report) {
  return section("cause", "Why",
    report.cause.reasons.length > 0 && h("ul", {}, report.cause.reasons.map((reason) => h("li", {}, reason))),
    (report.flags ?? []).length > 0 && [h("h3", {}, "What else stands out"),
      h("ul", { class: "flags" }, report.flags.map(({ name, reason }) => h("li", {}, h("b", {}, name), ` ${reason}`)))]);
}

function momentsSection(page) {
  const rows = page.report.timeline.map((moment) => [
    h("span", { class: moment.is_trigger ? "number is-trigger" : "number" }, `${moment.is_trigger ? "► " : ""}${seconds(moment.offset_ns, 3)}`),
    eventLink(page, moment.order),
    moment.type,
    [moment.is_trigger ? h("b", {}, moment.text) : moment.text,
      moment.repeated > 0 ? ` (and ${moment.repeated} more like it)` : null,
      moment.cause ? [" ← ", eventLink(page, moment.cause)] : null],
  ]);
  return section("moments", "What mattered", rows.length > 0 && table("What mattered", ["Seconds:", "#.", "Event.", "What"], rows));
}

function deathsSection(page) {
  const { deaths } = page.report;
  const told = Object.entries(deaths.verdicts ?? {}).map(([verdict, number]) => `${number} ${verdict.replaceAll("_", " ")}`);
  const rows = (deaths.certificates ?? []).map((death) => [
    named(death.process), h("span", {}, death.text), death.process.unit ?? "",
    death.lifetime_ns === undefined ? "—" : duration(death.lifetime_ns),
    [eventLink(page, death.order), death.cause ? [" ← ", eventLink(page, death.cause)] : null],
  ]);
  return section("deaths", "Death certificates",
    told.length > 0 ? h("p", {}, `Ended in the window: ${told.join(", ")}.`) : h("p", {}, "Nobody ended in the window."),
    rows.length > 0 && table("Death certificates", ["Process.", "Died of", "Unit", "Lived:", "Events."], rows),
    deaths.left_out > 0 && h("p", {}, `${deaths.left_out} more deaths by a signal are among the events.`));
}

/** A stack as a table: one row for each function, inlined ones above what they are part of. */
function stackTable(caption, frames) {
  const source = (one) => (one.file ? `${one.file}${one.line ? `:${one.line}` : ""}` : "");
  const rows = frames.flatMap((frame, number) => [
    ...(frame.inlined ?? []).map((one) => ["", "inlined", one.symbol ?? "?", source(one), ""]),
    [String(number), frame.address ?? "", frame.symbol ? `${frame.symbol}${frame.symbol_offset ? `+0x${frame.symbol_offset.toString(16)}` : ""}` : "?",
      source(frame), [frame.module, frame.offset === undefined ? null : `+0x${frame.offset.toString(16)}`, frame.build_id && `build ID ${frame.build_id}`].filter(Boolean).join(" ")],
  ]);
  return [h("h3", {}, caption), table(caption, ["#:", "Address.", "Function", "Source", "File"], rows)];
}

async function crashView(page, at) {
  const { events } = page;
  const fatal = await events.body(at);
  const facts = [
    ["Signal", [fatal.signal?.name ?? fatal.signal?.number, fatal.code?.name].filter(Boolean).join(" ")],
    ["Fault address", fatal.fault_address],
    ["Instruction", [fatal.ip, fatal.instruction_bytes && `bytes ${fatal.instruction_bytes}`].filter(Boolean).join(": ")],
    ["Stack pointer", fatal.sp],
    ["Error code", fatal.error_code],
    ["CPU", fatal.cpu],
    ["Sender", fatal.sender && `${named(fatal.sender)}${fatal.sender.uid === undefined ? "" : `, uid ${fatal.sender.uid}`}`],
    ["Asked before", fatal.asked && `${fatal.asked.signal?.name} from ${named(fatal.asked.sender)}`],
  ].filter(([, value]) => value !== undefined && value !== null && value !== "");
  const registers = Object.entries(fatal.registers ?? {});
  const mappings = (fatal.mappings ?? []).map((one) => [`${one.start}–${one.end}`, one.permissions ?? "", one.path ?? "", one.build_id ?? ""]);
  return h("details", { open: at === page.trigger },
    h("summary", {}, h("b", {}, named(fatal.process)), ` ${events.text[at]} `, eventLink(page, events.order[at])),
    h("dl", { class: "facts" }, facts.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
    fatal.unwound_stack && stackTable("Stack, by unwind tables", fatal.unwound_stack),
    fatal.stack && stackTable("Stack, as the kernel walked it", fatal.stack),
    registers.length > 0 && [h("h3", {}, "Registers"), h("dl", { class: "registers" }, registers.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))))],
    mappings.length > 0 && [h("h3", {}, "Mappings"), table("Mappings", ["Addresses.", "Access.", "File", "Build ID"], mappings)]);
}

/** The crashes: the one that fired the incident first. */
async function crashSection(page) {
  const MOST = 12;
  const { events } = page;
  const found = [];
  let more = 0;
  for (let at = 0; at < events.count; at += 1) {
    if (events.typeOf(at) !== "signal.fatal") continue;
    if (at === page.trigger) found.unshift(at);
    else if (found.length < MOST) found.push(at);
    else more += 1;
  }
  const views = [];
  for (const at of found) views.push(await crashView(page, at));
  return section("crashes", "Fatal signals", views, more > 0 && h("p", {}, `${more} more are among the events: filter by type.`));
}

function hostSection(report) {
  const rows = (report.series ?? []).map((series) => [series.name,
    ...[series.before, series.at, series.after, series.lowest, series.highest].map((value) => quantity(value, series.unit))]);
  const top = (report.top ?? []).map((busy) => [named(busy), busy.user ?? "",
    busy.cpu_percent === undefined ? "—" : `${busy.cpu_percent.toFixed(0)} %`, busy.rss_bytes === undefined ? "—" : bytes(busy.rss_bytes)]);
  return section("host", "The host before, at and after",
    rows.length > 0 && table("The host", ["", "Before:", "At:", "After:", "Lowest:", "Highest:"], rows),
    top.length > 0 && [h("h3", {}, `Busiest living processes, ${seconds(report.top_offset_ns, 1)} s from the trigger`),
      table("Busiest processes", ["Process.", "User.", "CPU:", "Memory:"], top)]);
}

function accountingSection(report) {
  const { accounting } = report;
  if (accounting.total.processes === 0) return null;
  const row = (one, name) => [name, String(one.processes), String(one.failed), String(one.signalled), duration(one.user_ns), duration(one.system_ns), bytes(one.read_bytes), bytes(one.write_bytes), bytes(one.max_rss_bytes)];
  const heads = ["Processes:", "Failed:", "By signal:", "CPU user:", "CPU system:", "Read:", "Written:", "Most memory:"];
  const of = (what, groups, leftOut) => table(`Accounting by ${what.toLowerCase()}`, [what, ...heads],
    [...groups.map((one) => row(one, one.name)), ...(leftOut > 0 ? [[`${leftOut} more`, "", "", "", "", "", "", "", ""]] : []), row(accounting.total, h("b", {}, "all"))]);
  return section("accounting", "Accounting of what ended in the window",
    of("User", accounting.users, accounting.users_left_out), of("Command", accounting.commands, accounting.commands_left_out));
}

function evidenceSection(report, files) {
  const rows = (report.evidence ?? []).map((one) => [one.name, one.state.replaceAll("_", " "),
    one.duration_ns === undefined ? "—" : duration(one.duration_ns), bytes(one.bytes), one.detail ?? one.stderr ?? ""]);
  return section("evidence", "Evidence",
    rows.length > 0 && table("Collectors", ["Collector.", "State.", "Took:", "Kept:", "Note"], rows),
    files.map((file) => h("details", {},
      h("summary", {}, h("b", {}, file.name), ` ${file.media_type}, ${bytes(file.bytes)}`),
      file.text === null ? h("p", {}, "Not shown here: recorder extract writes it to a file.")
        : h("pre", { tabindex: "0" }, preformatted(file.text)),
      file.text !== null && file.shown < file.bytes && h("p", {}, `${bytes(file.bytes - file.shown)} more: recorder extract writes all of it.`))));
}

/** A text of several lines, every other control character made visible. */
function preformatted(text) {
  return document.createTextNode(visible(text, "\n\t"));
}

function recordingSection(report) {
  const { recording } = report;
  const lines = [
    ...recording.coverage,
    `missing: ${recording.missing ?? "the dump does not say"}`,
    `${count(recording.events)} events read`,
    recording.unknown > 0 && `${recording.unknown} events of types that this version does not know`,
    ...recording.damage.map((place) => `damaged ${place}`),
  ];
  return section("recording", "What the recording covers", h("ul", {}, lines.filter(Boolean).map((line) => h("li", {}, line))));
}
