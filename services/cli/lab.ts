/**
 * `weir lab up|down|list|apply|delete|exec|logs|test|status`.
 *
 * @module
 */
import { setTimeout as delay } from "node:timers/promises";
import { WeirClient } from "@weir/client";
import {
  LabStatus,
  type ManifestFile,
  ManifestRequest,
  ManifestResponse,
  TestRequest,
  TestResponse,
} from "@weir/proto/lab";
import { parse, text, texts } from "./args.ts";
import { type CommandContext, UsageError } from "./context.ts";
import { labClient, labStatus, STATUS_MS_MAX } from "./lab_client.ts";
import { execInLab } from "./lab_exec.ts";
import { labLogs } from "./lab_logs.ts";
import { startDaemon, stopLab } from "./lab_process.ts";
import { readManifest, readManifests } from "./manifest_files.ts";
import { type Column, outputForm, render, table } from "./output.ts";
import { question } from "@weir/client/status";
import { unknownVerb } from "./suggestion.ts";

const HINT = "weir help lab";
const LAB_DEFAULT = "lab";

type Verb = (args: string[], context: CommandContext) => Promise<number>;
const VERBS: Record<string, Verb> = {
  up,
  down,
  list,
  ls: list,
  apply,
  delete: remove,
  exec: execInLab,
  logs: labLogs,
  test,
  status,
};

/** Runs the command. */
export async function labCommand(args: string[], context: CommandContext): Promise<number> {
  const [name, ...rest] = args;
  const verb = Object.hasOwn(VERBS, name ?? "") ? VERBS[name] : undefined;
  if (verb === undefined) throw unknownVerb("lab", name, Object.keys(VERBS));
  return await verb(rest, context);
}

async function up(args: string[], context: CommandContext): Promise<number> {
  const parsed = parse(args, {
    nodes: { type: "string" },
    file: { type: "string", short: "f", multiple: true },
    routing: { type: "string" },
    agent: { type: "string", multiple: true },
  }, HINT);
  if (parsed.positionals.length > 0) throw new UsageError(`Unknown word "${parsed.positionals[0]}"`, HINT);
  const nodes = Number(text(parsed, "nodes") ?? 2);
  if (!Number.isInteger(nodes) || nodes < 1 || nodes > 64) {
    throw new UsageError(`--nodes is ${text(parsed, "nodes")}: expected 1 to 64`, HINT);
  }
  const routing = text(parsed, "routing") ?? "tunnel";
  if (routing !== "tunnel" && routing !== "direct") {
    throw new UsageError(`--routing is ${routing}: expected tunnel or direct`, HINT);
  }
  if (Deno.uid() !== 0) throw new Error("Cannot bring a lab up: network namespaces need root");
  // Read before anything is made: a wrong path should not cost a lab.
  const files = await readManifests(texts(parsed, "file"), context.io);
  const name = context.flags.lab ?? LAB_DEFAULT;
  if (context.run.labs().some((lab) => lab.name === name)) {
    if (!await answers(context, name)) {
      throw new Error(
        `Lab "${name}" is half gone, its daemon does not answer: remove the rest with weir lab down --lab ${name}`,
      );
    }
    throw new Error(
      `Lab "${name}" is up already: change it with weir lab apply, or remove it with weir lab down`,
    );
  }
  context.io.out(`lab ${name}: ${nodes} ${nodes === 1 ? "node" : "nodes"}, ${routing} routing\n`);
  await startDaemon(context, { name, nodes, routing, agentOptions: texts(parsed, "agent") });
  const client = labClient(context, name);
  try {
    const failed = await followProgress(context, client, name);
    if (failed) return 1;
    if (files.length > 0) {
      const code = await change(context, client, "apply", { files });
      if (code !== 0) return code;
    }
    const whole = await client.call("/v1/status", { method: "GET", response: LabStatus });
    if (whole.pods.length > 0) context.io.out("\n" + podTable(whole, "table"));
    // Where there are several, every command has to say which one it means.
    const which = context.run.labs().length > 1 ? ` --lab ${name}` : "";
    const next = ["status", "lab exec POD -- CMD", "observe -f", "lab down"].map((command) =>
      `weir${which} ${command}`
    );
    context.io.out(`\nlab ${name} is ready: ${next.join(", ")}\n`);
    return 0;
  } finally {
    client.close();
  }
}

/** Whether the lab's daemon answers. */
async function answers(context: CommandContext, name: string): Promise<boolean> {
  const client = new WeirClient({ socket: `${context.run.path}/lab/${name}/lab.sock` });
  return (await question(client, (client) => client.send("/livez"))).kind === "answered";
}

/** Prints the daemon's steps as they end; true when it failed. */
async function followProgress(context: CommandContext, client: WeirClient, name: string): Promise<boolean> {
  let shown = 0;
  while (true) {
    if (context.io.interrupted.aborted) {
      throw new Error(`Interrupted: remove what there is with weir lab down --lab ${name}`);
    }
    const status = await client.call("/v1/status", { method: "GET", response: LabStatus });
    for (; shown < status.progress.length; shown++) context.io.out(`  ${status.progress[shown]}\n`);
    if (status.state === "ready") return false;
    if (status.state === "failed") {
      context.io.err(
        `weir: lab ${name} did not come up: ${status.error}\n` +
          `  weir lab logs node-1 shows why; remove it with weir lab down --lab ${name}\n`,
      );
      return true;
    }
    await delay(100);
  }
}

async function apply(args: string[], context: CommandContext): Promise<number> {
  const parsed = parse(args, { file: { type: "string", short: "f", multiple: true } }, HINT);
  const paths = texts(parsed, "file");
  if (paths.length === 0 || parsed.positionals.length > 0) {
    throw new UsageError("Say what to apply: -f FILE|DIR|-", HINT);
  }
  const files = await readManifests(paths, context.io);
  const client = labClient(context);
  try {
    return await change(context, client, "apply", { files });
  } finally {
    client.close();
  }
}

async function remove(args: string[], context: CommandContext): Promise<number> {
  const parsed = parse(args, { file: { type: "string", short: "f", multiple: true } }, HINT);
  const pods = parsed.positionals.map((name) => {
    const pod = name.replace(/^(pods?)\//, "");
    return pod.includes("/") ? pod : `default/${pod}`;
  });
  const paths = texts(parsed, "file");
  if (paths.length + pods.length === 0) {
    throw new UsageError("Say what to delete: -f FILE|DIR|-, or pods", HINT);
  }
  const files = await readManifests(paths, context.io);
  const client = labClient(context);
  try {
    return await change(context, client, "delete", { files, pods });
  } finally {
    client.close();
  }
}

async function change(
  context: CommandContext,
  client: WeirClient,
  action: "apply" | "delete",
  request: { files: ManifestFile[]; pods?: string[] },
): Promise<number> {
  const answer = await client.call(`/v1/manifests:${action}`, {
    request: { message: ManifestRequest, value: request },
    response: ManifestResponse,
  });
  let failed = 0;
  for (const { kind, namespace, name, action, message } of answer.results) {
    const what = `${kind.toLowerCase()}/${name}${
      namespace && namespace !== "default" ? ` in ${namespace}` : ""
    }`;
    if (action === "failed") {
      failed++;
      context.io.err(`weir: ${what}: ${message}\n`);
    } else {
      context.io.out(`${what} ${action}${message === "" ? "" : ` (${message})`}\n`);
    }
  }
  for (const note of new Set(answer.notes)) context.io.out(`note: ${note}\n`);
  return failed === 0 ? 0 : 1;
}

async function test(args: string[], context: CommandContext): Promise<number> {
  const parsed = parse(args, { output: { type: "string", short: "o" } }, HINT);
  const [file, ...more] = parsed.positionals;
  if (file === undefined || more.length > 0) throw new UsageError("Say one file of expectations", HINT);
  const form = outputForm(text(parsed, "output"));
  const given = await readManifest(file, context.io);
  const client = labClient(context);
  let answer: TestResponse;
  try {
    answer = await client.call("/v1/tests:run", {
      request: { message: TestRequest, value: { file: given.file, text: given.text } },
      response: TestResponse,
    });
  } finally {
    client.close();
  }
  const mark = (row: TestResponse["rows"][number]) => row.passed ? "ok" : "FAILED";
  const columns: Column<TestResponse["rows"][number]>[] = [
    { title: "FROM", cell: (row) => row.from },
    { title: "TO", cell: (row) => row.to },
    { title: "PORT", cell: (row) => row.port },
    { title: "IP", cell: (row) => `v${row.family}` },
    { title: "EXPECTED", cell: (row) => row.expect },
    { title: "GOT", cell: (row) => row.got },
    { title: "TIME", cell: (row) => `${row.elapsedMs} ms` },
    { title: "ADDRESS", cell: (row) => row.address, wide: true },
    { title: "RESULT", cell: mark },
  ];
  context.io.out(render(answer.rows, columns, form, TestResponse.toJson(answer)));
  if (form === "table" || form === "wide") {
    context.io.out(`${answer.passed} as expected, ${answer.failed} not\n`);
  }
  return answer.failed === 0 ? 0 : 1;
}

async function status(args: string[], context: CommandContext): Promise<number> {
  const parsed = parse(args, { output: { type: "string", short: "o" } }, HINT);
  const form = outputForm(text(parsed, "output"));
  const whole = await labStatus(context);
  if (form === "json" || form === "yaml") {
    context.io.out(render([], [], form, LabStatus.toJson(whole)));
  } else {
    context.io.out(
      `lab ${whole.name}: ${whole.state}${
        whole.error ? `: ${whole.error}` : ""
      }, ${whole.routing} routing\n\n`,
    );
    context.io.out(table(
      ["NODE", "STATE", "IPV4", "IPV6", "PODS IPV4", "PODS IPV6", "MESSAGE"],
      whole.nodes.map((node) => [
        node.name,
        node.state,
        node.ipv4,
        node.ipv6,
        node.podCidrV4 || "-",
        node.podCidrV6 || "-",
        node.message,
      ]),
    ));
    if (whole.pods.length > 0) context.io.out("\n" + podTable(whole, form));
    for (const note of whole.notes) context.io.out(`note: ${note}\n`);
  }
  const ready = whole.state === "ready" && whole.nodes.every((node) => node.state === "ready") &&
    whole.pods.every((pod) => pod.state === "ready");
  return ready ? 0 : 1;
}

function podTable(whole: LabStatus, form: "table" | "wide"): string {
  return render(whole.pods, [
    { title: "NAMESPACE", cell: (pod) => pod.namespace },
    { title: "POD", cell: (pod) => pod.name },
    { title: "NODE", cell: (pod) => pod.node },
    { title: "STATE", cell: (pod) => pod.state },
    { title: "IPV4", cell: (pod) => pod.ipv4 },
    { title: "IPV6", cell: (pod) => pod.ipv6 },
    { title: "IDENTITY", cell: (pod) => pod.identity },
    { title: "RESTARTS", cell: (pod) => String(pod.restarts) },
    { title: "PID", cell: (pod) => pod.pid, wide: true },
    { title: "LABELS", cell: (pod) => pod.labels.join(","), wide: true },
    { title: "MESSAGE", cell: (pod) => pod.message },
  ], form);
}

async function list(args: string[], context: CommandContext): Promise<number> {
  const parsed = parse(args, { output: { type: "string", short: "o" } }, HINT);
  const form = outputForm(text(parsed, "output"));
  const records = context.run.labs().filter((lab) =>
    context.flags.lab === undefined || lab.name === context.flags.lab
  );
  const labs = await Promise.all(records.map(async (record) => {
    const answer = await question(
      new WeirClient({ socket: `${context.run.path}/lab/${record.name}/lab.sock` }),
      (client) => client.call("/v1/status", { method: "GET", response: LabStatus }),
      STATUS_MS_MAX,
    );
    if (answer.kind !== "answered") {
      return { record, processes: [], state: answer.kind === "hung" ? "hung" : "dead", pods: 0 };
    }
    const { processes, state, pods } = answer.value;
    return { record, processes, state, pods: pods.length };
  }));
  if (form === "json" || form === "yaml") {
    const whole = labs.map(({ record, processes, state }) => ({
      name: record.name,
      state,
      nodes: record.nodes,
      processes,
    }));
    context.io.out(render(labs, [], form, whole));
    return 0;
  }
  if (labs.length === 0) {
    context.io.out("No labs are up\n");
    return 0;
  }
  context.io.out(render(labs, [
    { title: "LAB", cell: (lab) => lab.record.name },
    { title: "STATE", cell: (lab) => lab.state },
    { title: "NODES", cell: (lab) => lab.record.nodes.length },
    { title: "PODS", cell: (lab) => String(lab.pods) },
    { title: "PROCESSES", cell: (lab) => String(lab.processes.length) },
  ], form));
  if (form === "wide") {
    context.io.out(
      "\n" + table(
        ["LAB", "NODE", "ROLE", "PID", "NAME"],
        labs.flatMap((lab) =>
          lab.processes.map((process) => [
            process.lab,
            process.node || "-",
            process.role,
            String(process.pid),
            process.name || "-",
          ])
        ),
      ),
    );
  }
  return 0;
}

async function down(args: string[], context: CommandContext): Promise<number> {
  const parsed = parse(args, {}, HINT);
  if (parsed.positionals.length > 0) {
    throw new UsageError(`Unknown word "${parsed.positionals[0]}": use --lab NAME`, HINT);
  }
  if (Deno.uid() !== 0) throw new Error("Cannot take a lab down: it needs root");
  const labs = context.run.labs();
  if (context.flags.lab === undefined && labs.length > 1) {
    throw new UsageError(
      `Several labs are up (${labs.map((lab) => lab.name).join(", ")}): say which one with --lab NAME`,
    );
  }
  // A lab whose record never came to be is taken down by its name all the same.
  const name = context.flags.lab ?? labs[0]?.name ?? LAB_DEFAULT;
  const report = await stopLab(name);
  const found = report.daemon !== 0 || Object.values(report.left).some((count) => count > 0);
  context.io.out(found ? `lab ${name} is gone\n` : `lab ${name} was not up: nothing of it is left\n`);
  return 0;
}
