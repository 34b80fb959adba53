/** What ginkgo reports of specs. @module */

/** What became of a spec that ran. */
export interface SpecResult {
  name: string;
  state: "passed" | "failed" | "skipped";
  seconds: number;
  /** Why it failed or left itself out; empty where it passed. */
  message: string;
}

/** As much of ginkgo's JSON report as is read. */
interface Report {
  SpecReports: {
    LeafNodeType: string;
    ContainerHierarchyTexts: string[] | null;
    LeafNodeText: string;
    State: string;
    /** Nanoseconds. */
    RunTime: number;
    Failure?: { Message?: string };
  }[] | null;
}

/** Reads a report. Specs that were not chosen are not in it; what fails outside specs (setting up) is. Pure. */
export function readReport(json: string): SpecResult[] {
  const results: SpecResult[] = [];
  for (const report of JSON.parse(json) as Report[]) {
    for (const spec of report.SpecReports ?? []) {
      const isSpec = spec.LeafNodeType === "It";
      const state = spec.State === "passed" || spec.State === "skipped" ? spec.State : "failed";
      const message = spec.Failure?.Message ?? "";
      // Ginkgo says of what was not chosen that it was skipped, without a word; one that leaves itself out says why.
      if (
        spec.State === "pending" || state === "skipped" && message === "" || !isSpec && state !== "failed"
      ) continue;
      const name = isSpec
        ? [...spec.ContainerHierarchyTexts ?? [], spec.LeafNodeText].join(" ")
        : spec.LeafNodeType;
      results.push({ name, state, seconds: spec.RunTime / 1e9, message });
    }
  }
  return results;
}

/** A table of results, what failed last, where people look; then the sum. Pure. */
export function summary(results: readonly SpecResult[]): string {
  const order = ["skipped", "passed", "failed"];
  const sorted = results.toSorted((a, b) =>
    order.indexOf(a.state) - order.indexOf(b.state) || (a.name < b.name ? -1 : 1)
  );
  const lines = sorted.flatMap(({ name, state, seconds, message }) => {
    const line = `${state.padEnd(7)} ${seconds.toFixed(1).padStart(6)} s  ${name}`;
    const why = message.trim().split("\n").slice(0, state === "failed" ? 3 : 1).filter((text) => text !== "");
    return [line, ...why.map((text) => `                    ${text.slice(0, 300)}`)];
  });
  const count = (state: SpecResult["state"]) => results.filter((result) => result.state === state).length;
  const skipped = count("skipped");
  return [
    ...lines,
    "",
    `${count("passed")} passed, ${count("failed")} failed${
      skipped ? `, ${skipped} left themselves out` : ""
    }`,
  ]
    .join("\n");
}
