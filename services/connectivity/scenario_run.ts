/** Runs one scenario. @module */
import { setTimeout as delay } from "node:timers/promises";
import type { Flow } from "@weir/proto/flow";
import { flowsOf } from "./cluster.ts";
import { checkFlows, type Sent } from "./flow_check.ts";
import type { Action, Answered, Family, Scenario, Source, World } from "./scenario.ts";
import type { Senders } from "./senders.ts";
import type { Place, Target } from "./target.ts";
import type { ProbeResult } from "./traffic.ts";

/** What is made of flows: they are not looked at, they warn, they fail. */
export type FlowValidation = "disabled" | "warning" | "strict";

/** A connection that is to be explained, in the words of `weir explain`. */
export interface Pair {
  readonly from: string;
  readonly to: string;
  readonly port: string;
}

/** What `weir explain` says of a connection. */
export type Explain = (pair: Pair) => Promise<string>;

/** Traffic that is not as it should be. */
export interface Fault {
  /** "client -> echo:8080 TCP IPv4". */
  readonly what: string;
  readonly wrong: readonly string[];
  /** What to look at: commands, and what they say. */
  readonly look: readonly string[];
}

/** What came of a scenario. */
export interface ScenarioResult {
  readonly name: string;
  readonly says: string;
  readonly state: "passed" | "warned" | "failed" | "skipped";
  readonly seconds: number;
  readonly faults: readonly Fault[];
  /** Why it was skipped. */
  readonly reason?: string;
}

/** What a scenario is run with. */
export interface ScenarioRunOptions {
  readonly target: Target;
  readonly senders: Senders;
  readonly flowValidation: FlowValidation;
  readonly answerMsMax: number;
  readonly signal: AbortSignal;
  readonly explain: Explain;
}

/** Who is to be denied has so long: a SYN and its repetition. Flows show that it was sent, and denied. */
const DENIED_MS_MAX = 1300;
/** Flows are polled by the nodes: they may come late. */
const FLOWS_MS_MAX = 20_000, FLOWS_POLL_MS = 250;
/** Times of flows are not exact; more would let flows of the scenario before in. */
const CLOCK_MS = 50;
/** Connections of one scenario that are explained when they fail. */
const EXPLAINED_MAX = 2;

/** One action of one family, and what came of it. */
interface Attempt {
  readonly action: Action;
  readonly family: Family;
  readonly what: string;
  readonly pair: Pair;
  readonly source: string;
  readonly destination: string;
  readonly port: number;
  readonly results: readonly ProbeResult[];
}

/** Runs a scenario. Never rejects: what could not be done is a fault. */
export async function runScenario(
  scenario: Scenario,
  world: World,
  options: ScenarioRunOptions,
): Promise<ScenarioResult> {
  const startMs = performance.now();
  const manifest = scenario.policies?.(world.namespace);
  let faults: readonly Fault[] = [], warnings: readonly Fault[] = [];
  try {
    if (manifest !== undefined) await options.target.changes.applyPolicies(manifest);
    ({ faults, warnings } = await tryActions(scenario.actions, world, options));
  } catch (error) {
    faults = [{ what: "scenario", wrong: [(error as Error).message], look: ["weir status"] }];
  }
  if (manifest !== undefined) {
    try {
      await options.target.changes.deletePolicies(manifest);
    } catch (error) {
      faults = [...faults, {
        what: "clean-up",
        wrong: [(error as Error).message],
        look: ["weir policy list -A"],
      }];
    }
  }
  const { name, says } = scenario;
  return {
    name,
    says,
    state: faults.length > 0 ? "failed" : warnings.length > 0 ? "warned" : "passed",
    seconds: (performance.now() - startMs) / 1000,
    faults: [...faults, ...warnings],
  };
}

async function tryActions(
  actions: readonly Action[],
  world: World,
  options: ScenarioRunOptions,
): Promise<{ faults: Fault[]; warnings: Fault[] }> {
  const sinceMs = Date.now() - CLOCK_MS;
  const attempts = (await Promise.all(actions.map((action) => tryAction(action, world, options)))).flat();
  if (attempts.length === 0) throw new Error("Nothing was sent: its ends have no address family in common");
  const wrong = new Map(attempts.map((attempt): [Attempt, string[]] => [attempt, outcomeFaults(attempt)]));
  const ofFlows = options.flowValidation === "disabled" ? new Map<Attempt, string[]>() : await flowFaults(
    attempts.filter((attempt) => wrong.get(attempt)!.length === 0),
    world,
    options,
    sinceMs,
  );
  const isStrict = options.flowValidation === "strict";
  let explained = 0;
  const faultOf = async (attempt: Attempt, lines: readonly string[]): Promise<Fault> => ({
    what: attempt.what,
    wrong: lines,
    look: await whereToLook(attempt, explained++ < EXPLAINED_MAX ? options.explain : undefined),
  });
  const faults: Fault[] = [], warnings: Fault[] = [];
  if (options.signal.aborted) return { faults, warnings };
  for (const attempt of attempts) {
    const lines = wrong.get(attempt)!, flows = ofFlows.get(attempt) ?? [];
    if (lines.length > 0) faults.push(await faultOf(attempt, lines));
    else if (flows.length > 0) (isStrict ? faults : warnings).push(await faultOf(attempt, flows));
  }
  return { faults, warnings };
}

async function tryAction(action: Action, world: World, options: ScenarioRunOptions): Promise<Attempt[]> {
  const { from, to, protocol, expect, count = 1, families = [4, 6] } = action;
  const place = placeOf(from, world);
  const bytes = action.bytes === "mtu" ? await options.senders.mtu(place) : action.bytes;
  const timeoutMs = expect.kind === "answered" ? options.answerMsMax : DENIED_MS_MAX;
  const attempts = await Promise.all(families.map(async (family) => {
    const source = addressOf(from, world, family), destination = to.at(world, family);
    if (!source || destination === undefined) return undefined;
    const { address, port } = destination;
    const results = await Promise.all(
      Array.from(
        { length: count },
        () => options.senders.send(place, { protocol, address, port, timeoutMs, bytes }),
      ),
    );
    return {
      action,
      family,
      what: `${titleOf(from)} -> ${to.title} ${protocol} IPv${family}`,
      pair: {
        from: explainFrom(from, world, family),
        to: to.explainAs?.(world) ?? address,
        port: protocol === "ICMP" ? (family === 4 ? "icmp" : "icmpv6") : `${port}/${protocol}`,
      },
      source,
      destination: address,
      port,
      results,
    };
  }));
  return attempts.filter((attempt) => attempt !== undefined);
}

/** What is wrong with what the sender saw. */
function outcomeFaults({ action: { expect, count = 1 }, results, source }: Attempt): string[] {
  const failed = results.filter(({ outcome }) => outcome === "error");
  if (failed.length > 0) return [`cannot send: ${failed[0].detail}`];
  const answered = results.filter(({ outcome }) => outcome === "answered");
  if (expect.kind !== "answered") {
    return answered.length === 0 ? [] : [`${byText(answered)} answered, expected that nobody does`];
  }
  const silent = results.find(({ outcome }) => outcome !== "answered");
  if (silent !== undefined) {
    const of = count === 1 ? "" : ` (${count - answered.length} of ${count})`;
    return [`no answer${of}: ${silent.outcome}${silent.detail === "" ? "" : `: ${silent.detail}`}`];
  }
  return answerFaults(expect, answered, source);
}

function answerFaults(
  { by, share, keepsSource }: Answered,
  answered: readonly ProbeResult[],
  source: string,
): string[] {
  const wrong: string[] = [], names = new Set(answered.map((result) => result.by));
  if (by !== undefined && ![...names].every((name) => by.includes(name))) {
    wrong.push(`${byText(answered)} answered, expected ${by.join(" or ")}`);
  }
  if (share === "all" && by?.some((name) => !names.has(name))) {
    wrong.push(
      `of ${answered.length} connections all went to ${byText(answered)}, expected a share for each of ${
        by.join(", ")
      }`,
    );
  }
  if (share === "one" && names.size > 1) {
    wrong.push(`connections went to ${byText(answered)}, expected one of them`);
  }
  const other = answered.find(({ seenFrom }) => seenFrom !== source);
  if (keepsSource && other !== undefined) {
    wrong.push(`the far end saw ${other.seenFrom}, expected ${source}`);
  }
  return wrong;
}

const byText = (results: readonly ProbeResult[]) =>
  [...new Set(results.map(({ by }) => by || "somebody"))].join(" and ");

/** Asks the nodes for flows until those that must be seen are there, or the time is over. */
async function flowFaults(
  attempts: readonly Attempt[],
  world: World,
  { target, signal }: ScenarioRunOptions,
  sinceMs: number,
): Promise<Map<Attempt, string[]>> {
  const open = new Map(attempts.map((attempt) => [attempt, ["its flows were not asked for"]]));
  const endMs = performance.now() + FLOWS_MS_MAX;
  const addresses = [
    ...new Set(attempts.flatMap(({ source, results }) => [
      source,
      ...results.map(({ seenFrom }) => seenFrom),
    ])),
  ].filter((address) => address !== "");
  if (attempts.length === 0) return open;
  while (true) {
    const isLast = performance.now() > endMs;
    let flows: Flow[];
    try {
      flows = (await Promise.all(
        target.nodes.map(({ name }) => flowsOf(target.access, name, { sinceMs, addresses })),
      )).flat();
    } catch (error) {
      // On a busy machine a node may be late; one that does not answer at all is a fault.
      if (isLast || signal.aborted) throw error;
      await delay(FLOWS_POLL_MS);
      continue;
    }
    for (const attempt of open.keys()) {
      const { missing, unexpected } = faultsOf(attempt, world, flows);
      if (missing.length + unexpected.length === 0) open.delete(attempt);
      else {
        open.set(attempt, [
          ...missing.map((what) => `not seen among the flows: ${what}`),
          ...unexpected.map((what) => `seen among the flows: ${what}`),
        ]);
      }
    }
    if (open.size === 0 || isLast || signal.aborted) return open;
    await delay(FLOWS_POLL_MS);
  }
}

function faultsOf(
  { action, source, destination, port, results }: Attempt,
  world: World,
  flows: readonly Flow[],
): ReturnType<typeof checkFlows> {
  const isToPod = action.to.pod !== undefined && !world.pod(action.to.pod).hostNetwork;
  const all = results.map((result) => {
    const sent: Sent = {
      protocol: action.protocol,
      froms: [
        { address: source, port: result.localPort },
        ...(result.seenFrom === "" ? [] : [{ address: result.seenFrom, port: result.seenPort }]),
      ],
      destination,
      port,
      isToPod,
      expect: action.expect,
    };
    return checkFlows(sent, flows);
  });
  return {
    missing: [...new Set(all.flatMap(({ missing }) => missing))],
    unexpected: [...new Set(all.flatMap(({ unexpected }) => unexpected))],
  };
}

async function whereToLook(
  { pair, source, destination }: Attempt,
  explain: Explain | undefined,
): Promise<string[]> {
  const words = `weir explain --from ${pair.from} --to ${pair.to} --port ${pair.port}`;
  const observe = `weir observe --from-ip ${source} --to-ip ${destination} --last 20`;
  if (explain === undefined) return [words, observe];
  const said = await explain(pair).catch((error: Error) => error.message);
  return [words, ...said.trimEnd().split("\n").map((line) => `  ${line}`), observe];
}

function placeOf(from: Source, world: World): Place {
  if (from === "outside") return from;
  return "pod" in from ? { pod: world.pod(from.pod) } : { node: world.nodes[from.node].name };
}

function addressOf(from: Source, world: World, family: Family): string | undefined {
  const one = from === "outside"
    ? world.outside
    : "pod" in from
    ? world.pod(from.pod)
    : world.nodes[from.node];
  return family === 4 ? one?.ipv4 : one?.ipv6;
}

function titleOf(from: Source): string {
  return from === "outside" ? from : "pod" in from ? from.pod : `node ${from.node + 1}`;
}

function explainFrom(from: Source, world: World, family: Family): string {
  if (from === "outside") return addressOf(from, world, family)!;
  if ("node" in from) return world.nodes[from.node].name;
  const { namespace, name } = world.pod(from.pod);
  return `${namespace}/${name}`;
}
