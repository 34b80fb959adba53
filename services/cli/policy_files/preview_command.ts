/**
 * `weir policy preview`: which recorded connections would be allowed or dropped that were not before.
 * @module
 */
import type { Inventory } from "@weir/policy-engine/offline";
import type { Effect, PortsOf, Preview } from "@weir/policy-engine/recorded";
import type { Init } from "@weir/proto";
import type { PreviewRequest, PreviewRuleCost } from "@weir/proto/history";
import { noWords, parse, text, texts } from "../args.ts";
import { type CommandContext, UsageError } from "../context.ts";
import { harmless } from "../harmless_text.ts";
import {
  type PreviewAnswer,
  previewJson,
  previewMarkdown,
  previewTable,
  refusalText,
} from "./preview_text.ts";
import { writerOf } from "./output_form.ts";
import { readFiles } from "./read.ts";
import type { Traffic, TrafficWindow } from "./traffic.ts";
import { trafficOf } from "./traffic_source.ts";

const HINT = "weir help policy";
const WRITERS = { table: previewTable, json: previewJson, markdown: previewMarkdown };
/** Something closes that passed. */
const EXIT_CLOSES = 3;
const NAMED_MAX = 5;

/** Runs the command. */
export async function previewCommand(args: string[], context: CommandContext): Promise<number> {
  const parsed = parse(args, {
    file: { type: "string", short: "f", multiple: true },
    current: { type: "string", multiple: true },
    flows: { type: "string" },
    since: { type: "string" },
    until: { type: "string" },
    "policy-entries-max": { type: "string" },
    cluster: { type: "string" },
    namespace: { type: "string", short: "n" },
    output: { type: "string", short: "o" },
  }, HINT);
  noWords(parsed, HINT);
  const { io } = context, paths = texts(parsed, "file"), current = texts(parsed, "current");
  if (paths.length === 0) throw new UsageError("Say which policies: -f FILE, DIR or -", HINT);
  const write = writerOf(parsed, WRITERS, HINT);
  const entriesMax = entriesOf(text(parsed, "policy-entries-max"));
  const flows = text(parsed, "flows");
  if (flows === "-" && [...paths, ...current].includes("-")) {
    throw new UsageError("Flows and policies cannot both come from stdin", HINT);
  }
  const window = { since: text(parsed, "since"), until: text(parsed, "until") };
  const named = { cluster: text(parsed, "cluster"), namespace: text(parsed, "namespace") };
  // Against the policies that are in force, with all identities that there are and the nodes that host them; or by files alone.
  const answer = flows === undefined && current.length === 0
    ? await previewLive(paths, { ...window, ...named, policyEntriesMax: entriesMax }, context)
    : await previewFiles({ paths, current, flows, window, entriesMax, ...named }, context);
  io.out(write(answer));
  for (const warning of answer.warnings) io.err(`weir: warning: ${warning}\n`);
  const { maps, counts } = answer.preview, refusal = refusalText(maps);
  if (refusal !== undefined) {
    io.err(`weir: ${refusal}\n`);
    return 1;
  }
  return counts.closes > 0 ? EXIT_CLOSES : 0;
}

async function previewLive(
  paths: string[],
  request: Init<PreviewRequest>,
  context: CommandContext,
): Promise<PreviewAnswer> {
  const { readManifests } = await import("../manifest_files.ts");
  const { describedRecord, historyPreview } = await import("./traffic_history.ts");
  const texts = await readManifests(paths, context.io, { recursive: true });
  const { changes, counts, maps, policies, record, warnings } = await historyPreview(
    { ...request, texts: texts.map(({ file, text }) => ({ file, text })) },
    context,
  );
  return {
    preview: {
      changes: changes.map((one) => ({ ...one, effect: effectOf(one.effect) })),
      counts: counts!,
      maps: {
        ...maps!,
        largest: maps!.largest,
        tooLarge: maps!.tooLarge.map((one) => ({ ...one, rules: rulesOf(one.rules) })),
      },
      policies,
      basis: "policies",
    },
    traffic: await describedRecord(record!),
    warnings: warnings.map(harmless),
  };
}

const EFFECTS = ["closes", "opens", "judges"] as const;

/** What a newer history calls in another way is not guessed. */
function effectOf(text: string): Effect {
  const effect = EFFECTS.find((one) => one === text);
  if (effect === undefined) {
    throw new UsageError(`The flow history says "${harmless(text)}" of connections: it is newer`);
  }
  return effect;
}

function rulesOf(rules: readonly PreviewRuleCost[]) {
  return rules.flatMap(({ source, entries }) => source === undefined ? [] : [{ source, entries }]);
}

/** What of `weir policy preview` is of files. */
interface FilePreview {
  readonly paths: string[];
  readonly current: string[];
  readonly flows: string | undefined;
  readonly window: TrafficWindow;
  readonly entriesMax: number | undefined;
  readonly cluster: string | undefined;
  readonly namespace: string | undefined;
}

async function previewFiles(
  { paths, current, flows, window, entriesMax, cluster: named, namespace }: FilePreview,
  context: CommandContext,
): Promise<PreviewAnswer> {
  const traffic = await trafficOf(flows, window, context);
  const { clusterOf } = await import("@weir/policy-engine/recorded");
  const cluster = named ?? clusterOf(traffic.recorder.book.ends) ?? "default";
  const options = { cluster, namespace };
  const fresh = await readFiles(paths, context.io, options);
  const old = current.length === 0 ? undefined : await readFiles(current, context.io, options);
  if (fresh.policies.length === 0) throw new UsageError(`There is no policy in ${paths.join(", ")}`);
  return {
    preview: await previewOffline(traffic, { fresh, old, cluster, entriesMax }),
    traffic,
    warnings: warningsOf(traffic, fresh, old),
  };
}

async function previewOffline(
  { recorder }: Traffic,
  { fresh, old, cluster, entriesMax }: {
    fresh: Inventory;
    old: Inventory | undefined;
    cluster: string;
    entriesMax: number | undefined;
  },
): Promise<Preview> {
  const { JudgedCluster, newRepository, previewPolicies } = await import("@weir/policy-engine/recorded");
  const repository = newRepository();
  for (const policy of old?.policies ?? []) repository.upsertPolicy(policy);
  const judged = new JudgedCluster(repository, recorder.book, { cluster, portsOf: portsOf(fresh, old) });
  return await previewPolicies(judged, recorder.connections, fresh.policies, {
    basis: old === undefined ? "record" : "policies",
    entriesMax,
  });
}

/** Port names of workloads, from the manifests that came along. */
function portsOf(...inventories: (Inventory | undefined)[]): PortsOf {
  const byName = new Map(
    inventories.flatMap((inventory) => inventory?.workloads ?? []).map((workload) => [
      `${workload.namespace}/${workload.name}`,
      workload.ports,
    ]),
  );
  return ({ namespace, workload }) => byName.get(`${namespace}/${workload}`) ?? [];
}

/** What the answer rests on, and is not known. */
function warningsOf(traffic: Traffic, fresh: Inventory, old: Inventory | undefined): string[] {
  const known = new Set(
    [...fresh.policies, ...old?.policies ?? []].map(({ namespace, policyName }) =>
      namespace === "" ? policyName : `${namespace}/${policyName}`
    ),
  );
  const missing = [...traffic.allowedBy].filter((name) => !known.has(name)).sort();
  const warnings: string[] = [];
  if (missing.length > 0) {
    warnings.push(
      `recorded connections were allowed by policies that are not given: ${
        missing.slice(0, NAMED_MAX).map(harmless).join(", ")
      }${
        missing.length > NAMED_MAX ? `, and ${missing.length - NAMED_MAX} more` : ""
      }; give them with --current, for they may allow what is said to close`,
    );
  } else if (old === undefined) {
    warnings.push(
      "the policies in force are not given (--current): those of -f are taken for all there are, and what the record says for what was before",
    );
  }
  const names = new Set(
    [...fresh.policies].flatMap(({ rules }) => rules).flatMap(({ directions }) =>
      [directions.INGRESS, directions.EGRESS].flatMap(({ sections }) => sections)
    ).flatMap(({ ports }) => ports).map(({ name }) => name).filter((name) => name !== ""),
  );
  const defined = new Set(
    [fresh, old].flatMap((inventory) => inventory?.workloads ?? []).flatMap(({ ports }) => ports).map((
      { name },
    ) => name),
  );
  const unknown = [...names].filter((name) => !defined.has(name)).sort();
  if (unknown.length > 0) {
    warnings.push(
      `the numbers of the ports ${
        unknown.slice(0, NAMED_MAX).join(", ")
      } are not known: give the manifests of the pods as well`,
    );
  }
  return warnings;
}

function entriesOf(given: string | undefined): number | undefined {
  if (given === undefined) return undefined;
  const number = /^\d{1,7}$/.test(given) ? Number(given) : 0;
  if (number < 1 || number > 1 << 20) {
    throw new UsageError(
      `Cannot take "${given}" for --policy-entries-max: expected a number from 1 to 1048576`,
      HINT,
    );
  }
  return number;
}
