import assert from "node:assert/strict";
import { gzipSync } from "node:zlib";
import { CommandContext, type CommandIo, UsageError } from "../context.ts";
import { policyCommand } from "../policy.ts";

const directory = await Deno.makeTempDir({ prefix: "weir-recorded-" });
globalThis.addEventListener("unload", () => Deno.removeSync(directory, { recursive: true }));
const write = (name: string, text: string | Uint8Array) => {
  const path = `${directory}/${name}`;
  if (typeof text === "string") Deno.writeTextFileSync(path, text);
  else Deno.writeFileSync(path, text);
  return path;
};

async function run(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  let out = "", err = "";
  const io: CommandIo = {
    out: (text) => void (out += text),
    err: (text) => void (err += text),
    terminal: false,
    readStdin: () => Promise.resolve(""),
    interrupted: new AbortController().signal,
  };
  try {
    return { code: await policyCommand(args, new CommandContext(io)), out, err };
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    return { code: 2, out, err: err + error.message };
  }
}

const pod = (app: string) => ({
  identity: 1000 + app.length,
  namespace: "shop",
  labels: [`k8s:app=${app}`, "k8s:io.cilium.k8s.policy.cluster=east", "k8s:io.kubernetes.pod.namespace=shop"],
  pod_name: `${app}-0`,
  workloads: [{ name: app, kind: "StatefulSet" }],
});
const flow = (from: string, to: string, port: number, change: object = {}) =>
  JSON.stringify({
    flow: {
      time: "2026-11-22T10:00:00Z",
      verdict: "FORWARDED",
      IP: { source: "10.0.0.1", destination: "10.0.0.2" },
      l4: { TCP: { source_port: 40_000 + from.length, destination_port: port } },
      source: pod(from),
      destination: pod(to),
      Type: "L3_L4",
      node_name: "east/node-a",
      traffic_direction: "INGRESS",
      is_reply: false,
      ...change,
    },
  }) + "\n";
const policy = (...apps: string[]) =>
  `apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: { name: db, namespace: shop }\nspec:\n` +
  `  endpointSelector: { matchLabels: { app: db } }\n  ingress:\n  - fromEndpoints:\n${
    apps.map((app) => `    - matchLabels: { app: ${app} }\n`).join("")
  }`;
const text = flow("web", "db", 5432) + flow("job", "db", 5432) + "torn {\n" +
  flow("web", "db", 80, {
    ingress_allowed_by: [{ name: "base", namespace: "shop", kind: "CiliumNetworkPolicy" }],
  });

Deno.test("weir policy preview judges a file of flows: what closes, with file and line, and exits with 3", async () => {
  const flows = write("flows.jsonl", text), file = write("new.yaml", policy("web"));
  const found = await run("preview", "-f", file, "--flows", flows);
  assert.equal(found.code, 3, found.err);
  assert.match(
    found.out,
    /^CLOSES +shop\/job +shop\/db +5432\/TCP +1 .*no rule allows it: cnp:shop\/db spec\.ingress \(.*new\.yaml:7\)$/m,
  );
  assert.match(
    found.out,
    /^1 connections would be dropped that passed; .* 2 pass and 0 are dropped as before$/m,
  );
  assert.match(found.out, /^east\/node-a +1 +1 +\d+ KiB$/m);
  assert.match(found.out, /^Lines that are no flows: 1 \(line 3: no JSON\)$/m);
  assert.match(found.err, /allowed by policies that are not given: shop\/base; give them with --current/);
  const packed = write("flows.gz", gzipSync(text));
  const json = JSON.parse((await run("preview", "-f", file, "--flows", packed, "-o", "json")).out);
  assert.deepEqual([json.counts.closes, json.changes[0].rules[0].line, json.record.unreadableLines], [
    1,
    7,
    1,
  ]);
  const current = write("current.yaml", policy("job"));
  const both = await run("preview", "-f", file, "--current", current, "--flows", flows, "-o", "markdown");
  assert.match(both.out, /\| \*\*closes\*\* \| shop\/job .*\n\| \*\*opens\*\* \| shop\/web /);
  assert.match(both.out, /\| east\/node-a \| 1 \| 1 → 1 \|/);
  assert.equal(
    (await run("preview", "-f", write("all.yaml", policy("web", "job")), "--flows", flows)).code,
    0,
  );
  const full = await run(
    "preview",
    "-f",
    write("all.yaml", policy("web", "job")),
    "--flows",
    flows,
    "--policy-entries-max",
    "1",
  );
  assert.equal(full.code, 1);
  assert.match(
    full.err,
    /Cannot apply: the maps of 1 policy .* at most 1 entries\n {2}shop\/db: 2 entries; .*all\.yaml:8\)/,
  );
});

Deno.test("weir policy preview refuses what is no record, with words", async () => {
  const file = write("new.yaml", policy("web"));
  for (
    const [name, content, message] of [
      [
        "zeros",
        new Uint8Array(2 << 20),
        /line 1: longer than 1 MiB; expected what hubble observe -o jsonpb prints/,
      ],
      ["empty", "", /there is no flow in it/],
      ["words", "SOURCE DESTINATION\n", /line 1: no JSON/],
      ["torn.gz", gzipSync(text).subarray(0, 60), /its gzip is damaged/],
      ["noise.gz", Uint8Array.of(0x1f, 0x8b, 1, 2, 3), /its gzip is damaged/],
    ] as const
  ) {
    const { code, err } = await run("preview", "-f", file, "--flows", write(name, content));
    assert.equal(code, 2, name);
    assert.match(err, message, name);
  }
  const flows = write("flows.jsonl", text);
  const old = await run("preview", "-f", file, "--flows", flows, "--since", "2030-01-01");
  assert.match(
    old.err,
    /no connection to judge .* newest flow is of 2026-11-22T10:00:00Z: 3 outside of the window/,
  );
  assert.match((await run("preview", "-f", file, "--flows", flows, "--since", "yesterday")).err, /yesterday/);
  assert.match((await run("preview", "-f", file, "--flows", directory)).err, /it is a directory/);
  assert.match((await run("preview", "-f", file, "--flows", `${directory}/none`)).err, /it is not there/);
  assert.match((await run("preview", "--flows", flows)).err, /Say which policies/);
  assert.match((await run("preview", "-f", file, "--flows", flows, "-o", "jsn")).err, /did you mean "json"/);
});
