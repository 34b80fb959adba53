/** Runs scenarios: makes pods, sends traffic, compares what came and which flows were seen, and takes everything away again. @module */
import { servedAt, settledServices } from "./cluster.ts";
import { DropCheck, LogCheck } from "./final_checks.ts";
import {
  ALT,
  HTTP,
  NAMESPACE_PREFIX,
  PLAIN,
  PLAIN_BACKENDS,
  plainPods,
  plainServices,
  POLICY_PODS,
  POOL,
} from "./pods.ts";
import type { Scenario, World } from "./scenario.ts";
import { type Explain, type FlowValidation, runScenario, type ScenarioResult } from "./scenario_run.ts";
import { serving } from "./place_process.ts";
import { Senders } from "./senders.ts";
import { PLAIN_SCENARIOS } from "./scenarios/plain.ts";
import { POLICY_SCENARIOS } from "./scenarios/policies.ts";
import { type PlaceProgram, type PodAt, type Target, TargetError } from "./target.ts";

/** How a run is made. */
export interface RunOptions {
  readonly target: Target;
  /** Names of scenarios that are meant. */
  readonly isMeant: (name: string) => boolean;
  readonly flowValidation: FlowValidation;
  /** How long an answer may take. */
  readonly answerMsMax: number;
  /** Scenarios with policies that run side by side. */
  readonly lanes: number;
  /** Leaves pods and services. */
  readonly keep: boolean;
  /** Ends the run: what was made is taken away all the same. */
  readonly signal: AbortSignal;
  /** What to look at when a connection is not as it should be. */
  readonly explain: Explain;
  /** Reasons of drops that do not fail `no-unexpected-drops`, beside those that scenarios make. */
  readonly expectedDropReasons: readonly string[];
  /** Told of each result as it comes. */
  readonly report: (result: ScenarioResult) => void;
  /** Told of steps in between. */
  readonly progress: (text: string) => void;
}

/** Scenarios with policies of which each needs a namespace that runs beside others, at most. */
export const LANES_MAX = 8;
const SERVICES_MS_MAX = 30_000;
/** Scenarios without policies that run side by side. */
const PLAIN_AT_ONCE = 4;

/** Checks of the whole run. */
export const FINAL_CHECKS = [
  { name: "no-unexpected-drops", says: "nothing was dropped for a reason that no scenario makes" },
  { name: "no-errors-in-logs", says: "no service wrote an error meanwhile" },
] as const;

/** Every scenario and check, in order. */
export function allScenarios(): readonly Pick<Scenario, "name" | "says" | "needs">[] {
  return [...PLAIN_SCENARIOS, ...POLICY_SCENARIOS, ...FINAL_CHECKS];
}

/** Why a scenario cannot run there; undefined: it can. */
export function lacking(
  { needs }: Pick<Scenario, "needs">,
  { nodes, outside }: Target,
): string | undefined {
  if ((needs?.nodes ?? 1) > nodes.length) return `it needs ${needs?.nodes} nodes`;
  if (needs?.outside && outside === undefined) return "it needs a machine beyond the nodes";
  return undefined;
}

/** Runs what is meant. @throws {Error} what scenarios need could not be made */
export async function runScenarios(options: RunOptions): Promise<ScenarioResult[]> {
  const { target, signal } = options;
  const results: ScenarioResult[] = [];
  const report = (result: ScenarioResult) => {
    results.push(result);
    options.report(result);
  };
  const pick = (scenarios: readonly Scenario[]) =>
    scenarios.filter(({ name }) => options.isMeant(name)).filter((scenario) => {
      const reason = lacking(scenario, target);
      if (reason !== undefined) {
        report({
          name: scenario.name,
          says: scenario.says,
          state: "skipped",
          seconds: 0,
          faults: [],
          reason,
        });
      }
      return reason === undefined;
    });
  const plain = pick(PLAIN_SCENARIOS), policies = pick(POLICY_SCENARIOS);
  const run = new Run(options, report);
  try {
    await run.prepare(Math.min(options.lanes, policies.length), plain.length + policies.length > 0);
    await run.scenarios(plain, policies);
    if (!signal.aborted) await run.finalChecks();
  } finally {
    await run.end();
  }
  return results;
}

/** One run, and what it made. */
class Run {
  readonly #senders: Senders;
  readonly #servers: PlaceProgram[] = [];
  readonly #worlds: World[] = [];
  #plain: World | undefined;
  #drops: DropCheck | undefined;
  #logs: LogCheck | undefined;

  constructor(readonly options: RunOptions, readonly report: (result: ScenarioResult) => void) {
    this.#senders = new Senders(options.target);
    options.signal.addEventListener("abort", () => void this.#senders.stop(), { once: true });
  }

  async prepare(lanes: number, hasTraffic: boolean): Promise<void> {
    const { target, progress, signal, expectedDropReasons } = this.options;
    await this.#sweep();
    this.#logs = new LogCheck(target, Date.now());
    this.#drops = await DropCheck.begin(target, expectedDropReasons);
    if (!hasTraffic) return;
    progress(`making pods in ${PLAIN}${lanes === 0 ? "" : ` and ${lanes} namespaces for policies`}`);
    const plain = podsByName(await target.makePods(PLAIN, plainPods(target.nodes.length)));
    for (let lane = 1; lane <= lanes && !signal.aborted; lane++) {
      const namespace = `${NAMESPACE_PREFIX}policy-${lane}`;
      const own = podsByName(await target.makePods(namespace, POLICY_PODS));
      this.#worlds.push(worldOf(target, namespace, own, plain, new Map()));
    }
    await target.changes.changeServices("apply", plainServices());
    await target.routeOutside("replace", POOL);
    if (target.outside !== undefined) {
      const ports = [`${HTTP}/TCP`, `${HTTP}/UDP`, `${ALT}/TCP`];
      this.#servers.push(await serving(target.start("outside", "serve", "world", ...ports), ports));
    }
    const services = await settledServices(
      target.access,
      PLAIN,
      PLAIN_BACKENDS,
      SERVICES_MS_MAX,
    );
    await Promise.all(target.nodes.map(({ name }) => servedAt(target.access, name, PLAIN, PLAIN_BACKENDS)));
    this.#plain = worldOf(target, PLAIN, plain, plain, services);
  }

  /** Runs those without policies side by side, and beside them those with policies, one per namespace at a time. */
  async scenarios(plain: readonly Scenario[], policies: readonly Scenario[]): Promise<void> {
    const waiting = [...plain], changing = [...policies];
    const work = async (queue: Scenario[], world: World | undefined) => {
      for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
        if (this.options.signal.aborted || world === undefined) return;
        const result = await runScenario(next, world, { ...this.options, senders: this.#senders });
        if (!this.options.signal.aborted) this.report(result);
      }
    };
    await Promise.all([
      ...Array.from({ length: PLAIN_AT_ONCE }, () => work(waiting, this.#plain)),
      ...this.#worlds.map((world) => work(changing, world)),
    ]);
  }

  async finalChecks(): Promise<void> {
    for (const { name, says } of FINAL_CHECKS) {
      if (!this.options.isMeant(name)) continue;
      const check = name === "no-unexpected-drops" ? this.#drops! : this.#logs!;
      this.report({ name, says, ...await check.result() });
    }
  }

  /** Takes away what was made. */
  async end(): Promise<void> {
    await this.#senders.stop();
    await Promise.all(this.#servers.map((server) => server.stop()));
    if (this.options.keep) return;
    this.options.progress("taking everything away");
    await this.#sweep();
  }

  async #sweep(): Promise<void> {
    const { target } = this.options;
    await target.changes.sweepPolicies(NAMESPACE_PREFIX);
    await target.routeOutside("delete", POOL);
    await target.changes.changeServices("delete", plainServices());
    await target.removePods(NAMESPACE_PREFIX);
  }
}

const podsByName = (pods: readonly PodAt[]) => new Map(pods.map((pod) => [pod.name, pod]));

function worldOf(
  { nodes, outside }: Target,
  namespace: string,
  own: ReadonlyMap<string, PodAt>,
  plain: ReadonlyMap<string, PodAt>,
  services: Awaited<ReturnType<typeof settledServices>>,
): World {
  const found = <T>(what: string, value: T | undefined): T => {
    if (value !== undefined) return value;
    throw new TargetError(`Cannot find ${what} in ${namespace}`);
  };
  return {
    namespace,
    nodes,
    outside,
    pod: (name) =>
      found(
        `pod ${name}`,
        name.startsWith("plain/") ? plain.get(name.slice("plain/".length)) : own.get(name),
      ),
    service: (name) => found(`service ${name}`, services.get(name)),
  };
}
