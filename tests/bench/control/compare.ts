/**
 * Runs a bench in this tree and, in the same run, in the tree of another version, each in a process of its own, and prints
 * the figures beside each other with the ratio now/before.
 * @module
 */

/** A figure, what it is, and its unit. */
export type Row<F> = readonly [figure: keyof F, what: string, unit: string];

/** What a child is told beside its load: the root of the version's tree, and an empty directory of its own. */
export interface Place {
  root: string;
  directory: string;
}

/** What is measured, and with what. */
export interface Comparison<F> {
  /** Prints the figures of the version at `root` as one line of JSON; it gets load and {@link Place} as its argument. */
  child: URL;
  load: Record<string, number>;
  rows: readonly Row<F>[];
  /** A checkout of another version. */
  before?: string;
  /** Longest run of the other version, in seconds of the wall clock; default: no limit. */
  beforeTimeoutS?: number;
}

/** Measures and prints. */
export async function compare<F extends Record<keyof F, number>>(comparison: Comparison<F>): Promise<void> {
  const { load, rows, before: folder, beforeTimeoutS } = comparison;
  const here = new URL("../../../", import.meta.url).pathname.replace(/\/$/, "");
  const now = await run(comparison, here);
  const before = folder === undefined
    ? undefined
    : await run(comparison, await Deno.realPath(folder), beforeTimeoutS)
      .catch((error) => console.log(`No figures of the other version: ${error.message}`));
  console.log(Object.entries(load).map(([name, value]) => `${name} ${value}`).join(", "));
  for (const [figure, what, unit] of rows) {
    const cells = [what.padEnd(62), `${format(now[figure])} ${unit}`.padStart(12)];
    if (before) {
      const ratio = format(now[figure] / before[figure]);
      cells.push(`${format(before[figure])} ${unit}`.padStart(12), `x ${ratio}`);
    }
    console.log(cells.join("  "));
  }
}

async function run<F>({ child, load }: Comparison<F>, root: string, timeoutS?: number): Promise<F> {
  const directory = await Deno.makeTempDir({ prefix: "weir-bench-" });
  const signal = timeoutS === undefined ? undefined : AbortSignal.timeout(timeoutS * 1000);
  try {
    const { stdout, stderr, success } = await new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "-A",
        "--quiet",
        "--no-check",
        "--v8-flags=--expose-gc,--max-old-space-size=3000",
        ...["--config", `${root}/deno.json`],
        child.pathname,
        JSON.stringify({ ...load, root, directory }),
      ],
      cwd: root,
      signal,
    }).output();
    if (signal?.aborted) throw new Error(`${root} did not finish in ${timeoutS} s`);
    if (!success) throw new Error(`${root}: ${new TextDecoder().decode(stderr).slice(-2000)}`);
    return JSON.parse(new TextDecoder().decode(stdout));
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

function format(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
}
