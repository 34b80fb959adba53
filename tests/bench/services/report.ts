/**
 * The tables that the benchmark prints: medians over the rounds, and ratios within one group of rounds.
 * @module
 */
import type { KubePath } from "./kube_path.ts";
import { median, type Path } from "./path.ts";
import type { WeirLoad } from "./weir_path.ts";

const cell = (value: number, width: number, digits = 0) => value.toFixed(digits).padStart(width);

/**
 * Connects per second in the least disturbed round, and medians of latencies over the rounds. What a path adds to a connect is against the same way without a service, measured in
 * the same rounds: two pods for Weir, routing without a rule for the others.
 */
export function printTraffic(groups: { size: number; paths: Path[] }[]): void {
  console.log(
    `\n${"services".padStart(8)}  ${"path".padEnd(22)} connects/s  connect+1 p50 us     adds     p99` +
      `   rr p50 us     adds     p99`,
  );
  for (const { size, paths } of groups) {
    let base = paths[0];
    for (const path of paths) {
      if (path.change === undefined) base = path;
      const of = (path: Path, value: (s: Path["samples"][0]) => number) => median(path.samples.map(value));
      const added = (value: (s: Path["samples"][0]) => number) => {
        if (path === base) return " ".repeat(9);
        const us = of(path, value) - of(base, value);
        return `${us >= 0 ? "+" : ""}${us.toFixed(1)}`.padStart(9);
      };
      console.log(
        `${cell(size, 8)}  ${path.name.padEnd(22)} ${
          cell(Math.max(...path.samples.map((s) => s.rate)), 10)
        }` +
          cell(of(path, (s) => s.crr.p50), 18, 1) + added((s) => s.crr.p50) +
          cell(of(path, (s) => s.crr.p99), 8, 1) + cell(of(path, (s) => s.rr.p50), 12, 1) +
          added((s) => s.rr.p50) + cell(of(path, (s) => s.rr.p99), 8, 1),
      );
    }
  }
}

/** What one changed backend costs. */
export function printChanges(groups: { size: number; paths: Path[] }[]): void {
  console.log(
    `\n${"services".padStart(8)}  ${"one changed backend".padEnd(24)}  median ms     min     max      writes`,
  );
  for (const { size, paths } of groups) {
    for (const { name, changes } of paths) {
      if (changes.length === 0) continue;
      const ms = changes.map((c) => c.ms);
      console.log(
        `${cell(size, 8)}  ${name.padEnd(24)} ${cell(median(ms), 10, 1)}${cell(Math.min(...ms), 8, 1)}` +
          `${cell(Math.max(...ms), 8, 1)}${cell(median(changes.map((c) => c.writes)), 12)}`,
      );
    }
  }
}

/** What it takes to load all services, five backends each. */
export function printLoads(
  rows: { size: number; kube: KubePath[]; weir: WeirLoad | undefined }[],
): void {
  console.log(`\n${"services".padStart(8)}  ${"loading".padEnd(24)}         ms      writes`);
  for (const { size, kube, weir } of rows) {
    if (weir) {
      console.log(
        `${cell(size, 8)}  ${"Weir".padEnd(24)} ${cell(weir.ms, 10)}${cell(weir.writes, 12)}   ` +
          `(${weir.added} added; in the datapath ${weir.datapathMs.toFixed(0)} ms)  ${weir.memory}`,
      );
    }
    for (const path of kube) {
      console.log(
        `${cell(size, 8)}  ${path.name.padEnd(24)} ${cell(path.loadMs, 10)}${cell(path.rules, 12)}`,
      );
    }
  }
}
