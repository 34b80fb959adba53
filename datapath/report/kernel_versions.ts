/** Which kernel release brought what, from kernel_versions.tsv. @module */

/** What a row speaks about. */
export type FeatureKind = "helper" | "program" | "map" | "attach" | "feature";

/** One row. */
export interface FeatureRow {
  readonly kind: FeatureKind;
  readonly number: number;
  readonly name: string;
  /** First release that has it, `5.10`. */
  readonly kernel: string;
}

let rows: ReadonlyMap<string, FeatureRow> | undefined;

/** All rows by `kind:number`; read once. */
function table(): ReadonlyMap<string, FeatureRow> {
  if (rows !== undefined) return rows;
  const text = Deno.readTextFileSync(new URL("./kernel_versions.tsv", import.meta.url));
  const found = new Map<string, FeatureRow>();
  for (const line of text.split("\n")) {
    const [kind, number, name, kernel] = line.split("\t");
    if (kernel === undefined || kind === "kind") continue;
    found.set(`${kind}:${number}`, { kind: kind as FeatureKind, number: Number(number), name, kernel });
  }
  return rows = found;
}

/** The row about a number; undefined when the table does not have it. */
export function featureOf(kind: FeatureKind, number: number): FeatureRow | undefined {
  return table().get(`${kind}:${number}`);
}

/** `bpf_skb_store_bytes` for 9; `helper 999` when unknown. */
export function helperName(number: number): string {
  return featureOf("helper", number)?.name ?? `helper ${number}`;
}

/** Compares releases: negative when `a` is older. */
export function compareReleases(a: string, b: string): number {
  const [majorA, minorA] = a.split(".").map(Number), [majorB, minorB] = b.split(".").map(Number);
  return majorA - majorB || minorA - minorB;
}

/** Whether a text names a release, `6.1`. */
export function isRelease(text: string): boolean {
  return /^\d{1,2}\.\d{1,3}$/.test(text);
}
