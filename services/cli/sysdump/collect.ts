/**
 * Gathers a sysdump: asks every service, runs what tells of the machine, takes secrets out. Whoever hangs costs one deadline, and
 * is named.
 *
 * @module
 */
import type { WeirClient } from "@weir/client";
import { type Answer, question } from "@weir/client/status";
import { WEIR_VERSION } from "@weir/common/version";
import { clientOf } from "../clients.ts";
import type { CommandContext, NodeTarget, ServiceName } from "../context.ts";
import { ARCHIVE_LIMITS, isArchiveName } from "./archive.ts";
import { asFact, type Fact, hostLog, labLog, machineFacts, nodeFacts } from "./machine_facts.ts";
import { type Failure, FORMAT, type Manifest, MANIFEST_FILE } from "./manifest.ts";
import { CLUSTER_QUESTIONS, EACH_MAX, fileOf, NODE_QUESTIONS, type Question } from "./questions.ts";
import { environmentOf, Redactor, secretsOf } from "./redact.ts";

/** How a sysdump is made. */
export interface CollectOptions {
  /** Flows and events of each node, the newest. */
  readonly flows: number;
  /** How long one answer, or one program, may take. */
  readonly answerMsMax: number;
  /** How long all of it may take; what was not asked by then is left out. */
  readonly wholeMsMax: number;
}

/** Where it is made of, beside the services. */
export interface DumpSource {
  /** What is said of it in the manifest. */
  readonly of: Pick<Manifest, "lab" | "kubernetes">;
  readonly facts: readonly Fact[];
  /** Facts that are had all at once, by file; what it fails with is told of `file`. */
  readonly groups?: readonly {
    readonly file: string;
    gather(msMax: number): Promise<ReadonlyMap<string, string>>;
  }[];
  /** Environments whose secrets must not be found in it; it is asked when all else is there. */
  environments(texts: ReadonlyMap<string, string>): Promise<readonly Readonly<Record<string, string>>[]>;
}

/** Services, and programs, that are asked at once. */
const AT_ONCE_MAX = 12;

/** The files of a sysdump, and what it lacks. */
export interface Collected {
  readonly files: Map<string, Uint8Array>;
  readonly manifest: Manifest;
}

/** Gathers everything. Never rejects for what does not answer. */
export async function collect(
  context: CommandContext,
  source: DumpSource,
  options: CollectOptions,
): Promise<Collected> {
  const nodes = context.nodes(), madeUnixMs = Date.now();
  const texts = new Map<string, string>(), failures: Failure[] = [];
  const deadlineMs = performance.now() + options.wholeMsMax;
  const gathering = { texts, failures, deadlineMs, ...options };
  const tasks = [
    ...Object.entries(CLUSTER_QUESTIONS).map(([service, questions]) => () =>
      askService(context, service as ServiceName, questions, `cluster/${service}`, gathering)
    ),
    ...nodes.flatMap((target) =>
      Object.entries(NODE_QUESTIONS).map(([service, questions]) => () =>
        askService(
          context,
          service as ServiceName,
          questions,
          `nodes/${target.node}/${service}`,
          gathering,
          target,
        )
      )
    ),
    ...source.facts.map((fact) => () => runFact(fact, gathering)),
    ...(source.groups ?? []).map((group) => () => runGroup(group, gathering)),
  ];
  await Promise.all(Array.from({ length: AT_ONCE_MAX }, async () => {
    for (let next = tasks.shift(); next !== undefined; next = tasks.shift()) await next();
  }));
  const redactor = new Redactor((await source.environments(texts)).flatMap(secretsOf));
  const files = encoded(texts, redactor, failures);
  failures.sort((a, b) => a.file < b.file ? -1 : 1);
  const manifest: Manifest = {
    format: FORMAT,
    version: WEIR_VERSION,
    madeUnixMs,
    ...source.of,
    nodes: nodes.map(({ node }) => node),
    failures: failures.map((failure) => ({ ...failure, error: redactor.redact(failure.error) })),
  };
  const text = new TextEncoder().encode(JSON.stringify(manifest, null, 2) + "\n");
  return { files: new Map([[MANIFEST_FILE, text], ...files]), manifest };
}

interface Gathering extends CollectOptions {
  readonly texts: Map<string, string>;
  readonly failures: Failure[];
  readonly deadlineMs: number;
}

/** One question after the other; the first that hangs, or finds nobody, is the last. */
async function askService(
  context: CommandContext,
  service: ServiceName,
  questions: readonly Question[],
  directory: string,
  gathering: Gathering,
  target?: NodeTarget,
): Promise<void> {
  const { texts, failures, answerMsMax } = gathering;
  for (const one of questions) {
    const file = `${directory}/${fileOf(one)}`;
    if (isOver(file, gathering)) return;
    const client = clientOf(
      context,
      service,
      target ?? (service === "relay" ? context.nodes()[0] : undefined),
    );
    const answer: Answer<string> = await question(
      client,
      (client) => ask(client, one, gathering),
      answerMsMax,
    );
    if (answer.kind === "answered") texts.set(file, answer.value);
    else failures.push({ file, kind: answer.kind, error: answer.error });
    if (answer.kind === "hung" || answer.kind === "away") return;
  }
}

async function ask(client: WeirClient, one: Question, { flows, answerMsMax }: Gathering): Promise<string> {
  const options = { deadlineMs: answerMsMax };
  switch (one.kind) {
    case "list": {
      const { items, revision } = await client.collection(one.name, one.message).list(undefined, options);
      return json({ revision, items: items.map((item) => one.message.toJson(item)) });
    }
    case "each": {
      const names = (await client.collection(one.of.name, one.of.message).list(undefined, options)).items
        .map(({ name }) => name as string).slice(0, EACH_MAX);
      const own = client.collection(one.name, one.message);
      const items: unknown[] = [];
      for (const name of names) {
        const item = await own.get(name, options).catch(() => undefined); // it went meanwhile, or has none
        if (item !== undefined) items.push(one.message.toJson(item));
      }
      return json({ items });
    }
    case "call": {
      const answer = await client.call(one.path, { method: "GET", response: one.message, ...options });
      return json(one.message.toJson(answer as never));
    }
    case "stream": {
      const lines: string[] = [];
      const query = { last: [`${flows}`], watch: false };
      for await (const answer of client.stream(one.path, one.message, { query })) {
        lines.push(JSON.stringify(one.message.toJson(answer)));
      }
      return lines.map((line) => `${line}\n`).join("");
    }
    case "text": {
      // What is not ready answers 503, and says why: that is what is asked for.
      if (one.path.startsWith("/readyz")) return (await client.readiness()).text;
      const { bytes } = await client.exchange(one.path, {}, options);
      return new TextDecoder().decode(bytes);
    }
  }
}

const json = (value: unknown) => JSON.stringify(value, null, 1) + "\n";

/** This machine: a host's own Weir, or a lab. */
export function machineSource(context: CommandContext): DumpSource {
  const nodes = context.nodes(), lab = context.lab()?.name;
  const facts = [
    ...machineFacts(),
    ...nodes.flatMap(({ node }) => {
      if (lab === undefined) return [...nodeFacts(node, []), hostLog(node)];
      const enter = ["nsenter", `--net=/run/netns/weir-${lab}--${node}`, "--"];
      return [
        ...nodeFacts(node, enter),
        labLog(node, `${context.run.path}/lab/${lab}/logs/${node}.agent.log`),
      ];
    }),
  ];
  return { of: lab === undefined ? {} : { lab }, facts: facts.map(asFact), environments: environmentsOf };
}

async function runGroup(
  { file, gather }: NonNullable<DumpSource["groups"]>[number],
  gathering: Gathering,
): Promise<void> {
  if (isOver(file, gathering)) return;
  try {
    for (const [name, text] of await gather(gathering.answerMsMax)) gathering.texts.set(name, text);
  } catch (error) {
    gathering.failures.push({ file, kind: "refused", error: (error as Error).message });
  }
}

async function runFact(fact: Fact, gathering: Gathering): Promise<void> {
  if (isOver(fact.file, gathering)) return;
  try {
    gathering.texts.set(fact.file, await fact.gather(gathering.answerMsMax));
  } catch (error) {
    gathering.failures.push({ file: fact.file, kind: "refused", error: (error as Error).message });
  }
}

function isOver(file: string, { deadlineMs, wholeMsMax, failures }: Gathering): boolean {
  if (performance.now() < deadlineMs) return false;
  failures.push({ file, kind: "left out", error: `the time of ${wholeMsMax / 1000} s was over` });
  return true;
}

/** The environment of this program and of the services. */
async function environmentsOf(texts: ReadonlyMap<string, string>): Promise<Record<string, string>[]> {
  const pids = new Set<number>();
  for (const [file, text] of texts) {
    if (!file.endsWith("/agent/processes.json")) continue;
    for (const { pid } of (JSON.parse(text) as { items: { pid?: number }[] }).items) if (pid) pids.add(pid);
  }
  return [Deno.env.toObject(), ...await Promise.all([...pids].map(environmentOf))];
}

function redacted(file: string, text: string, redactor: Redactor): string {
  if (file.endsWith(".json")) return redactor.redactJson(text) + "\n";
  if (!file.endsWith(".jsonl")) return redactor.redact(text);
  return text.split("\n").map((line) => line === "" ? line : redactor.redactJson(line)).join("\n");
}

/** Files without secrets, as long as they are within the limits. */
function encoded(
  texts: ReadonlyMap<string, string>,
  redactor: Redactor,
  failures: Failure[],
): Map<string, Uint8Array> {
  const files = new Map<string, Uint8Array>();
  let whole = 0;
  for (const [file, text] of [...texts].sort(([a], [b]) => a < b ? -1 : 1)) {
    if (!isArchiveName(file)) {
      failures.push({ file, kind: "left out", error: "its name is too long, or none of an archive" });
      continue;
    }
    const bytes = new TextEncoder().encode(redacted(file, text, redactor));
    // Half of what a reader takes: the other half is for what a later version adds.
    if (
      bytes.length > ARCHIVE_LIMITS.fileBytesMax / 2 || whole + bytes.length > ARCHIVE_LIMITS.bytesMax / 2
    ) {
      failures.push({ file, kind: "left out", error: `it has ${bytes.length} bytes` });
      continue;
    }
    whole += bytes.length;
    files.set(file, bytes);
  }
  return files;
}
