/**
 * `weir observe` beside the real `hubble observe`, over the same flows in a file: the same flags, the same fields in every
 * format, the same filters, the same refusals.
 * @module
 */
import assert from "node:assert/strict";
import { Flow } from "@weir/proto/flow";
import { GetFlowsResponse } from "@weir/proto/observer";
import { flagsOf } from "../../services/cli/manual/manual.ts";
import { OBSERVE_FLAGS } from "../../services/cli/manual/observe.ts";
import { run } from "../e2e/weir.ts";
import { FILTERS } from "./filters.ts";
import { generateFlows } from "./generated_flows.ts";
import { weirObserve as weir } from "./our_client.ts";
import { HUBBLE, isBuilt, offline } from "./real_client.ts";

const directory = isBuilt ? await Deno.makeTempDir() : "";
const file = `${directory}/flows.json`;

if (isBuilt) {
  Deno.test.beforeAll(async () => {
    const flows = generateFlows(600, 20_261_129).map(inOneNamespace);
    flows.push(...HOSTILE);
    const lines = flows.map((flow) =>
      JSON.stringify(GetFlowsResponse.toJson({ flow, node_name: flow.node_name, time: flow.time }))
    );
    await Deno.writeTextFile(file, lines.join("\n") + "\n" + LOST.join("\n") + "\n");
  });
  Deno.test.afterAll(async () => await Deno.remove(directory, { recursive: true }));
}
const test = (name: string, fn: () => Promise<void>) => Deno.test({ name, ignore: !isBuilt, fn });

/** The original names a pod by the namespace of its service. They are the same, where both are true. */
function inOneNamespace(flow: Flow): Flow {
  const { source, destination, source_service, destination_service } = flow;
  if (source_service) source_service.namespace = source?.namespace ?? "";
  if (destination_service) destination_service.namespace = destination?.namespace ?? "";
  return flow;
}

/** What an attacker has put into names, and numbers that nobody knows. */
const HOSTILE: Flow[] = [
  { Summary: "HTTP/1.1 GET http://a/\x1b[2J\x1b]0;owned" },
  { IP: { source: "10.0.0.1", destination: "10.0.0.2" }, destination_names: ["evil\x1b[1m.example.org"] },
  { event_type: { type: 1, sub_type: 254 }, verdict: "DROPPED" as const },
  { event_type: { type: 4, sub_type: 99 } },
  { event_type: { type: 7, sub_type: 2 } },
  { event_type: { type: 77 } },
  { auth_type: "SPIRE" as const, Summary: "UDP" },
].map((init, n) =>
  Flow.create({ ...init, uuid: `odd-${n}`, time: { seconds: 1_795_100_000 + n, nanos: 5_000_000 } })
);

const LOST = [
  '{"lost_events":{"source":"HUBBLE_RING_BUFFER","num_events_lost":"12","cpu":3},"node_name":"node-1","time":"2026-11-22T10:00:04Z"}',
  '{"lost_events":{"source":"HUBBLE_RING_BUFFER","num_events_lost":"7","first":"2026-11-22T10:00:00Z","last":"2026-11-22T10:00:03.5Z"},"time":"2026-11-22T10:00:05Z"}',
];

/** What both print, with what Weir adds left out. */
async function both(...args: string[]): Promise<{ ours: string; theirs: string }> {
  const [ours, theirs] = await Promise.all([
    weir(...args, "--print-policy-names=false", "--input-file", file),
    offline(file, ...args),
  ]);
  assert.equal(ours.code, 0, `weir observe ${args.join(" ")}: ${ours.err}`);
  return { ours: ours.out, theirs };
}

test("weir observe has every flag of hubble observe, with its short name and whether it takes a value", async () => {
  const { out } = await run(HUBBLE, ["observe", "--help"]);
  // --server is of every command of Weir's; a configuration file it has none.
  const theirs = out.slice(0, out.indexOf("Global Flags:"));
  const found = [...theirs.matchAll(/^ {2,6}(?:-(\w), )?--([a-z0-9-]+)(.*)$/gm)].map(
    ([, short, name, rest]) => {
      const [, type = "", isSwitch] =
        /^ (filter|uint16|uint|strings|stringArray|string|duration)?(\[=\w+\])?(?: |$)/.exec(rest) ?? [];
      return { name, short, takes: type !== "" && isSwitch === undefined };
    },
  );
  assert.ok(found.length > 70, `${found.length} flags are found in the help:\n${theirs}`);
  const ours = new Map(flagsOf(OBSERVE_FLAGS).map((flag) => [flag.name, flag]));
  const differences = found.filter(({ name, short, takes }) => {
    if (NOT_OURS.includes(name)) return false;
    const flag = ours.get(name);
    return flag === undefined || flag.short !== short || (flag.value !== undefined) !== takes;
  });
  assert.deepEqual(differences, []);
});

/** Of every command; passwords, which Weir's relay has no use for; calls that this command makes none of; ways through Kubernetes. */
const NOT_OURS = [
  ...["server", "basic-auth-username", "basic-auth-password", "request-timeout"],
  ...["kube-context", "kube-namespace", "kubeconfig", "port-forward", "port-forward-port"],
];

const PRINTS: string[][] = [
  ...["compact", "dict"].flatMap((form) => [
    ["-o", form],
    ["-o", form, "--print-node-name"],
    ["-o", form, "--numeric"],
    ["-o", form, "--ip-translation=false"],
    ["-o", form, "--color", "always"],
  ]),
  ...[
    ...[
      "StampMilli",
      "YearMonthDay",
      "YearMonthDayHour",
      "YearMonthDayHourMinute",
      "RFC3339",
      "RFC3339Milli",
    ],
    ...["RFC3339Micro", "RFC3339Nano", "RFC1123Z"],
  ].map((format) => ["--time-format", format]),
];

test("lines and records are the same, letter by letter, with names, numbers, colours and times", async () => {
  for (const args of PRINTS) {
    const { ours, theirs } = await both("--all", ...args);
    assertSameLines(ours, theirs, args);
  }
});

test("tables have the same cells", async () => {
  for (const args of [["-o", "table"], ["-o", "tab", "--print-node-name", "--numeric"]]) {
    const { ours, theirs } = await both("--last", "300", ...args);
    const cells = (text: string) =>
      text.trimEnd().split("\n").map((line) => line.trim().split(/ {3,}/).join(" | "));
    assertSameLines(cells(ours).join("\n"), cells(theirs).join("\n"), args);
  }
});

test("JSON has the same fields, whole and masked", async () => {
  for (const args of [["-o", "json"], ["-o", "jsonpb", "--field-mask", "time,uuid,source.labels"]]) {
    const { ours, theirs } = await both("--all", ...args);
    const read = (text: string) => text.trim().split("\n").map((line) => JSON.parse(line, millis));
    // A mask is the server's work: a file is printed as it is by the original.
    if (args.includes("--field-mask")) {
      const fields = new Set(read(ours).flatMap(({ flow }) => Object.keys(flow ?? {})));
      assert.deepEqual([...fields].sort(), ["source", "time", "uuid"]);
      continue;
    }
    assert.deepEqual(read(ours), read(theirs));
  }
});
/** "10:00:00.500Z" and "10:00:00.5Z" are one time. */
const millis = (_: string, value: unknown) =>
  typeof value === "string" && /^\d{4}-\d\d-\d\dT/.test(value) ? value.replace(/\.?0*Z$/, "Z") : value;

const FLAGS = FILTERS.map((filter) => typeof filter === "string" ? ["--allowlist", filter] : filter);

test("filters, counts and times choose the same flows from a file", async () => {
  const counts = [
    ["--first", "7"],
    ["--last", "7"],
    [],
    ["--since", "2026-11-18T10:40:00Z", "--last", "5"],
    [
      "--until",
      "2026-11-18T10:40:00Z",
    ],
    ["--since", "2026-11-18", "--until", "Wed, 18 Nov 2026 10:40:00 +0000"],
    ["--last", "18446744073709551615"],
  ];
  // All of them are compared in filters_test.ts: here it is the way from the flags and a file to them.
  const filters = FLAGS.filter((_, n) => n % 8 === 0);
  for (const args of [...filters, ...MORE_FILTERS, ...counts]) {
    const { ours, theirs } = await both(...args, "-o", "json");
    assert.deepEqual(uuidsOf(ours), uuidsOf(theirs), args.join(" "));
  }
});
/** Of flows alone: that something was lost is told whatever is asked for, and the original's file reader leaves it out. */
const uuidsOf = (text: string) =>
  text.trim().split("\n").filter((line) => line !== "").map((line) => JSON.parse(line).flow?.uuid)
    .filter((uuid) => uuid !== undefined);
const MORE_FILTERS: string[][] = [
  ["--reply"],
  ["--not-reply"],
  ["--not", "--not-reply"],
  ["--from-all-namespaces"],
  ["--to-all-namespaces", "--verdict", "DROPPED"],
  ["--pod", "shop/cart", "--from-namespace", "shop"],
  ["-n", "shop", "--service", "cart"],
  ["-t", "trace-sock"],
  ["--denylist", '{"verdict":["DROPPED"]}{"verdict":["FORWARDED"]}', "--pod", "shop/"],
];

test("--print-raw-filters says the same filters", async () => {
  for (
    const args of [[], ...FLAGS, ...MORE_FILTERS, ["-t", "agent:policy-updated"], [
      "--type",
      "trace:to-crypto",
    ]]
  ) {
    const words = [...args, "--print-raw-filters"];
    const [ours, theirs] = await Promise.all([
      weir(...words),
      run(HUBBLE, ["observe", ...words, "--config", "/dev/null"]),
    ]);
    assert.equal(ours.code, 0, `${words.join(" ")}: ${ours.err}`);
    const read = (text: string) =>
      text.split("\n").map((line) => {
        const [, json] = /^ +- '(.*)'$/.exec(line) ?? [];
        return json === undefined ? line : sorted(JSON.parse(json.replaceAll("''", "'")));
      });
    assert.deepEqual(read(ours.out), read(theirs.out), words.join(" "));
  }
});
/** Values of one field are one or the other: their order means nothing. */
function sorted(filter: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(filter).map((
      [key, value],
    ) => [key, Array.isArray(value) ? value.map((v) => JSON.stringify(v)).sort() : value]),
  );
}

test("what the original refuses is refused, as wrong usage and with words", async () => {
  const wrong = [
    ["--not"],
    ["--not", "--not", "--pod", "a"],
    ["--first", "1", "--last", "1"],
    ["--first", "1", "--all"],
    ["--first", "1", "-f"],
    ["--last", "1", "--all"],
    ["-o", "xml"],
    ["-f", "-o", "table"],
    ["-o", "compact", "--field-mask", "time"],
    ["-o", "json", "--field-mask", "no_such_field"],
    ["--ip", "10.0.0.1", "--pod", "a"],
    ["--from-pod", "a", "--namespace", "b"],
    ["--pod", "a", "--to-pod", "b"],
    ["--pod", "a/b", "--namespace", "c"],
    ["--pod", "a/b", "--service", "c/d"],
    ["--label", "a=b", "--to-label", "c=d"],
    ["--port", "1", "--from-port", "2"],
    ["--identity", "1", "--to-identity", "2"],
    ["--workload", "a", "--to-workload", "b"],
    ["--service", "a", "--from-service", "b"],
    ["--encrypted", "--unencrypted"],
    ["--reply", "--not-reply"],
    ["--verdict", "MAYBE"],
    ["--drop-reason-desc", "BECAUSE"],
    ["--traffic-direction", "up"],
    ["--tcp-flags", "FOO"],
    ["--type", "nothing"],
    ["--type", "trace:nowhere"],
    ["--http-header", "no-colon"],
    ["--ip-trace-id", "0"],
    ["--identity", "nobody"],
    ["--since", "yesterday"],
    ["--until", "2026-13-01"],
    ["--last", "-1"],
    ["--allowlist", "{"],
    ["--allowlist", '{"source_prot":["1"]}'],
    ["--no-such-flag"],
    ["--from-ip", "10.0.0.300"],
    ["--http-path", "("],
  ];
  for (const args of wrong) {
    const theirs = await run(HUBBLE, ["observe", ...args, "--input-file", file, "--config", "/dev/null"]);
    assert.notEqual(theirs.code, 0, `the original takes ${args.join(" ")}`);
    const ours = await weir(...args, "--input-file", file);
    assert.deepEqual([ours.code, ours.out], [2, ""], `${args.join(" ")}: ${ours.err}`);
    assert.match(ours.err, /\S/, args.join(" "));
  }
  assert.match((await weir("--verdcit", "DROPPED")).err, /did you mean "--verdict"/);
  assert.match((await weir("agent-event")).err, /did you mean "agent-events"/);
  assert.match((await weir("--time-format", "RFC339")).err, /did you mean "RFC3339"/);
});

function assertSameLines(ours: string, theirs: string, args: string[]): void {
  const [a, b] = [ours, theirs].map((text) => text.split("\n"));
  const at = a.findIndex((line, n) => line !== b[n]);
  if (at < 0 && a.length === b.length) return;
  assert.equal(a[at], b[at], `${args.join(" ")}, line ${at + 1} of ${a.length}/${b.length}`);
}
