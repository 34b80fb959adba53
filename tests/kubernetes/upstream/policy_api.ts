/** Running the conformance suite of network-policy-api against a cluster that has its kind, and reading what became of it. @module */
import type { Cluster } from "../cluster/cluster.ts";
import { run } from "../cluster/process.ts";
import { policyApiParts } from "../parts/policy_api.ts";
import type { SpecResult } from "./report.ts";
import { surroundingsOf } from "./specs.ts";

/** What is asked of the suite. */
export interface PolicyApiOptions {
  /** Whole run; default 40. */
  minutes?: number;
  /** A regular expression of the tests to run; default all of them. */
  only?: string;
}

/** The suite's tests of SCTP, by their short names. */
const SCTP = ["Admin", "Baseline"].flatMap((tier) =>
  ["Egress", "Ingress"].map((direction) => `CNP${tier}Tier${direction}SCTP`)
);

/**
 * Defines the suite's kind, loads the image of its pods, and runs it. Everything that it says goes to `logs/policy-api.log`.
 * @returns what became of each test; those of SCTP are skipped where this kernel has none
 */
export async function runPolicyApi(cluster: Cluster, options: PolicyApiOptions = {}): Promise<SpecResult[]> {
  const { minutes = 40, only } = options;
  const { program, image, definition } = policyApiParts(cluster.cache);
  await cluster.kubectl(["apply", "--server-side", "-f", definition]);
  await cluster.importImages([image]);
  const except = surroundingsOf(cluster).sctp ? [] : SCTP;
  const words = [
    ...[
      program,
      "-test.v",
      `-test.timeout=${minutes}m`,
      `-test.run=TestConformance${only ? `/(${only})` : ""}`,
    ],
    ...[`-kubeconfig=${cluster.kubeconfig}`, `-except=${except.join(",")}`],
  ];
  const { out, err } = await run(cluster.inNetwork(words), { seconds: minutes * 60 + 60 });
  await Deno.writeTextFile(`${cluster.directory}/logs/policy-api.log`, `${out}${err}`);
  const results = readGoTests(out).filter(({ name }) => !except.includes(name));
  return [
    ...results,
    ...except.map((name) => ({
      name,
      state: "skipped" as const,
      seconds: 0,
      message: "this kernel has no SCTP",
    })),
  ];
}

/** Reads what a verbose Go test says of the tests below its first: the suite's own, with the names of those in them that failed. Pure. */
export function readGoTests(text: string): SpecResult[] {
  const results = new Map<string, SpecResult>();
  for (const line of text.split("\n")) {
    const found = /^\s*--- (PASS|FAIL|SKIP): [^/]+\/([^/]+)(?:\/(.+))? \(([\d.]+)s\)$/.exec(line);
    if (found === null) continue;
    const [, verdict, name, part, seconds] = found;
    // Parts come after the test that they are of.
    if (part !== undefined) {
      const test = results.get(name);
      if (test && verdict === "FAIL") test.message += `${part}\n`;
      continue;
    }
    const state = verdict === "PASS" ? "passed" : verdict === "SKIP" ? "skipped" : "failed";
    results.set(name, { name, state, seconds: Number(seconds), message: "" });
  }
  return [...results.values()];
}
