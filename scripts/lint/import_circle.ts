/**
 * Finds import circles: files that, through what they import, come back to themselves when they run. Imports of types alone do
 * not count: nothing of them is left.
 * @module
 */

/** Files and what each imports, as absolute paths. */
export type ImportGraph = ReadonlyMap<string, readonly string[]>;

const IMPORT =
  /^\s*(?:import|export)\b(?!\s+type\b)([^;"']*?)\bfrom\s*["'](\.[^"']+)["']|^\s*import\s*["'](\.[^"']+)["']/gm;

/**
 * Paths of a source that its import and export declarations name by path.
 * @param file absolute path of the source
 * @param suffix what specifiers leave out, `.ts` in AssemblyScript
 */
export function importedFiles(file: string, source: string, suffix = ""): string[] {
  const code = source.replace(/\/\*[^]*?\*\//g, "").replace(/^\s*\/\/.*$/gm, "");
  return [...code.matchAll(IMPORT)].filter(([, names]) => !typesAlone(names)).map(([, , from, bare]) => {
    const { pathname } = new URL(from ?? bare, `file://${file}`);
    return pathname.endsWith(".ts") || suffix === "" ? pathname : pathname + suffix;
  });
}

/** `{ type A, type B }` */
function typesAlone(names = ""): boolean {
  const list = /^\s*\{([^}]*)\}\s*$/.exec(names)?.[1].split(",").map((name) => name.trim()).filter((name) =>
    name
  );
  return list !== undefined && list.length > 0 && list.every((name) => /^type\s/.test(name));
}

/** The circles of a graph: groups of files that all reach each other, each in order of name. Pure. */
export function importCircles(graph: ImportGraph): string[][] {
  // Tarjan's strongly connected components.
  const index = new Map<string, number>(), low = new Map<string, number>();
  const stack: string[] = [], open = new Set<string>();
  const circles: string[][] = [];
  const visit = (file: string): void => {
    index.set(file, index.size);
    low.set(file, index.get(file)!);
    stack.push(file);
    open.add(file);
    for (const next of graph.get(file) ?? []) {
      if (!graph.has(next)) continue;
      if (!index.has(next)) {
        visit(next);
        low.set(file, Math.min(low.get(file)!, low.get(next)!));
      } else if (open.has(next)) low.set(file, Math.min(low.get(file)!, index.get(next)!));
    }
    if (low.get(file) !== index.get(file)) return;
    const group: string[] = [];
    let member: string;
    do {
      member = stack.pop()!;
      open.delete(member);
      group.push(member);
    } while (member !== file);
    if (group.length > 1 || graph.get(file)?.includes(file)) circles.push(group.sort());
  };
  for (const file of graph.keys()) if (!index.has(file)) visit(file);
  return circles.sort(([a], [b]) => a < b ? -1 : 1);
}
