/** What is looked at when all scenarios have run: counters of drops, and logs. @module */
import { dropsOf } from "./cluster.ts";
import type { ScenarioResult } from "./scenario_run.ts";
import type { Target } from "./target.ts";

/** Reasons that scenarios make themselves. */
const EXPECTED = ["POLICY_DENIED", "POLICY_DENY", "SERVICE_BACKEND_NOT_FOUND"];
const LINES_MAX = 10;

/** What came of a check. */
export type CheckResult = Omit<ScenarioResult, "name" | "says">;

/** Compares the nodes' counters of drops with those at the beginning. */
export class DropCheck {
  private constructor(
    readonly target: Target,
    readonly expected: ReadonlySet<string>,
    readonly before: ReadonlyMap<string, ReadonlyMap<string, number>>,
  ) {}

  /** Reads the counters. */
  static async begin(target: Target, expected: readonly string[]): Promise<DropCheck> {
    return new DropCheck(target, new Set([...EXPECTED, ...expected]), await counters(target));
  }

  async result(): Promise<CheckResult> {
    const startMs = performance.now(), after = await counters(this.target);
    const wrong = [...after].flatMap(([node, drops]) =>
      [...drops].flatMap(([key, count]) => {
        const more = count - (this.before.get(node)?.get(key) ?? 0);
        const [reason, direction] = key.split(" ");
        return more > 0 && !this.expected.has(reason)
          ? [`${node}: ${more} packets dropped at ${direction}: ${reason}`]
          : [];
      })
    );
    const look = ["weir observe --verdict DROPPED --last 50", "weir bpf metrics list"];
    return asResult(wrong.length === 0 ? [] : [{ what: "drops", wrong, look }], startMs);
  }
}

async function counters(target: Target): Promise<Map<string, ReadonlyMap<string, number>>> {
  return new Map(
    await Promise.all(
      target.nodes.map(async ({ name }) => [name, await dropsOf(target.access, name)] as const),
    ),
  );
}

/** Looks for errors in what the services wrote since the beginning. */
export class LogCheck {
  constructor(readonly target: Target, readonly sinceMs: number) {}

  async result(): Promise<CheckResult> {
    const startMs = performance.now();
    const lines = await this.target.logsSince(this.sinceMs);
    if (lines === undefined) {
      return {
        state: "skipped",
        seconds: 0,
        faults: [],
        reason: "the services' logs cannot be read from here",
      };
    }
    const wrong = lines.filter(({ line }) => /"level":"(error|fatal)"/.test(line))
      .map(({ node, line }) => `${node}: ${line}`);
    if (wrong.length > LINES_MAX) wrong.splice(LINES_MAX, Infinity, `and ${wrong.length - LINES_MAX} more`);
    return asResult(
      wrong.length === 0 ? [] : [{ what: "logs", wrong, look: ["weir status --verbose"] }],
      startMs,
    );
  }
}

function asResult(faults: ScenarioResult["faults"], startMs: number): CheckResult {
  return {
    state: faults.length === 0 ? "passed" : "failed",
    seconds: (performance.now() - startMs) / 1000,
    faults,
  };
}
