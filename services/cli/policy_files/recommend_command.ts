/**
 * `weir policy recommend`: the least policy that allows what was recorded.
 * @module
 */
import { Selector, SelectorError } from "@weir/common";
import type { RecommendedKind, RecommendedPolicy } from "@weir/policy-engine/recorded";
import { flag, noWords, parse, text } from "../args.ts";
import { type CommandContext, UsageError } from "../context.ts";
import { harmless } from "../harmless_text.ts";
import { didYouMean } from "../suggestion.ts";
import { count, timeText, type Traffic } from "./traffic.ts";
import { trafficOf } from "./traffic_source.ts";

const HINT = "weir help policy";
const LABELS_MAX = 16, KNOWN_SHOWN = 8;

/** Runs the command. */
export async function recommendCommand(args: string[], context: CommandContext): Promise<number> {
  const parsed = parse(args, {
    for: { type: "string" },
    flows: { type: "string" },
    since: { type: "string" },
    until: { type: "string" },
    kind: { type: "string" },
    l7: { type: "boolean" },
    cluster: { type: "string" },
    namespace: { type: "string", short: "n" },
  }, HINT);
  noWords(parsed, HINT);
  const { labels, selector } = labelsOf(text(parsed, "for"));
  const recorded = await import("@weir/policy-engine/recorded");
  const kinds: readonly string[] = recorded.RECOMMENDED_KINDS, kind = text(parsed, "kind") ?? kinds[0];
  if (!kinds.includes(kind)) {
    throw new UsageError(
      `Unknown kind "${kind}"${didYouMean(kind, [...kinds])}: expected ${kinds.join(" or ")}`,
      HINT,
    );
  }
  const isCilium = kind === kinds[0], l7 = flag(parsed, "l7");
  if (l7 && !isCilium) throw new UsageError(`${kind} has no L7 rules: leave out --l7`, HINT);
  const window = { since: text(parsed, "since"), until: text(parsed, "until") };
  const traffic = await trafficOf(text(parsed, "flows"), window, context);
  const { book, connections } = traffic.recorder;
  const cluster = text(parsed, "cluster") ?? recorded.clusterOf(book.ends) ?? "default";
  const policies = recorded.recommend(book, connections, {
    selector,
    namespace: text(parsed, "namespace"),
    cluster,
    names: isCilium,
    addressesMax: isCilium ? undefined : Infinity,
  });
  if (policies.length === 0) throw new UsageError(nobodyText(labels, text(parsed, "namespace"), traffic));
  const name = nameOf(labels);
  const documents: string[] = [];
  for (const policy of policies) {
    try {
      documents.push(recorded.policyYaml(policy, {
        ...{ kind: kind as RecommendedKind, name, labels: isCilium ? labels : withoutSources(labels), l7 },
        head: headOf(policy, traffic, labels),
      }));
    } catch (error) {
      if (!(error instanceof recorded.RecommendError)) throw error;
      throw new UsageError(`${kind} cannot say: ${error.message}; ask for --kind ${kinds[0]}`, HINT);
    }
  }
  const yaml = documents.join("---\n");
  const denied = await deniedBy(yaml, traffic, { cluster });
  context.io.out(yaml);
  for (const policy of policies) {
    if (policy.connections > 0) continue;
    context.io.err(
      `weir: warning: nothing of ${
        policy.workloads.map(harmless).join(", ")
      } passed: the policy denies everything\n`,
    );
  }
  if (denied > 0) {
    context.io.err(
      `weir: warning: ${
        count(denied)
      } recorded connections would be dropped by it; weir policy preview says which\n`,
    );
  }
  return 0;
}

function labelsOf(given: string | undefined): { labels: Record<string, string>; selector: Selector } {
  if (given === undefined) throw new UsageError("Say whom the policy is for: --for app=web", HINT);
  const labels: Record<string, string> = {};
  for (const word of given.split(",")) {
    const at = word.indexOf("=");
    if (at < 1) throw new UsageError(`Cannot take "${word}" for a label: expected KEY=VALUE`, HINT);
    labels[word.slice(0, at)] = word.slice(at + 1);
  }
  if (Object.keys(labels).length > LABELS_MAX) {
    throw new UsageError(`Cannot take more than ${LABELS_MAX} labels`, HINT);
  }
  try {
    return { labels, selector: Selector.parse({ matchLabels: labels }) };
  } catch (error) {
    if (!(error instanceof SelectorError)) throw error;
    throw new UsageError(error.message, HINT);
  }
}

function withoutSources(labels: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(labels).map(([key, value]) => {
      const [source, rest] = key.includes(":") ? key.split(":", 2) : ["k8s", key];
      if (source !== "k8s") {
        throw new UsageError(`NetworkPolicy cannot ask for ${key}: ask for --kind CiliumNetworkPolicy`, HINT);
      }
      return [rest, value];
    }),
  );
}

/** `web` of app=web: a name that an object may have. */
function nameOf(labels: Readonly<Record<string, string>>): string {
  const text = Object.values(labels).join("-").toLowerCase().replace(/[^a-z0-9.-]+/g, "-");
  return text.slice(0, 63).replace(/^[^a-z0-9]+|[^a-z0-9]+$/g, "") || "recommended";
}

function headOf(
  policy: RecommendedPolicy,
  { coverage }: Traffic,
  labels: Readonly<Record<string, string>>,
): string[] {
  const { workloads, connections, firstMs, lastMs, byName } = policy;
  const who = Object.entries(labels).map((pair) => pair.join("=")).join(",");
  const times = Number.isFinite(firstMs) ? `, ${timeText(firstMs)} to ${timeText(lastMs)}` : "";
  const shown = workloads.slice(0, KNOWN_SHOWN).join(", ") + (workloads.length > KNOWN_SHOWN ? ", ..." : "");
  return [
    `What ${who} in ${policy.namespace} was seen to do (${shown}): ${
      count(connections)
    } connections that passed${times}.`,
    "Nothing else is allowed: what happens more seldom than the record is long is not in it.",
    ...byName ? ["Names (toFQDNs) are known by the answers of DNS, so DNS goes through the L7 proxy."] : [],
    ...coverage,
  ];
}

function nobodyText(
  labels: Readonly<Record<string, string>>,
  namespace: string | undefined,
  { recorder }: Traffic,
): string {
  const wanted = Object.entries(labels).map((pair) => pair.join("=")).join(",");
  const [key] = Object.keys(labels), bare = key.slice(key.indexOf(":") + 1);
  const known = new Set(
    recorder.book.ends.flatMap(({ labels }) => labels.withKey(bare)).map(({ key, value }) =>
      `${key}=${value}`
    ),
  );
  const some = [...known].sort().slice(0, KNOWN_SHOWN).map(harmless).join(", ");
  return `No recorded workload${namespace === undefined ? "" : ` in ${namespace}`} has ${wanted}${
    didYouMean(wanted, [...known])
  }: ${
    known.size === 0
      ? `none has a label ${bare}`
      : `there are ${some}${known.size > KNOWN_SHOWN ? ", ..." : ""}`
  }`;
}

/** How much of what passed the policy would not let pass, by the engine itself. */
async function deniedBy(
  yaml: string,
  { recorder }: Traffic,
  { cluster }: { cluster: string },
): Promise<number> {
  const { readInventory } = await import("@weir/policy-engine/offline");
  const { JudgedCluster, newRepository } = await import("@weir/policy-engine/recorded");
  const { policies, faults } = readInventory([{ file: "", text: yaml }], { cluster });
  if (faults.length > 0) throw new Error(`Cannot read what was recommended: ${faults[0]}`);
  const repository = newRepository();
  for (const policy of policies) repository.upsertPolicy(policy);
  const judged = new JudgedCluster(repository, recorder.book, { cluster });
  return recorder.connections.reduce(
    (sum, connection) => sum + (judged.judge(connection)?.allowed === false ? connection.passed : 0),
    0,
  );
}
