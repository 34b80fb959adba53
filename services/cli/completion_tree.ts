/**
 * What may follow what on the command line, for shells: a node for each prefix of words.
 *
 * @module
 */
import { type Flag, flagsOf, GLOBAL_FLAGS, type Manual } from "./manual/manual.ts";

/** A flag, and of which kind of live names its value is. */
export interface LiveFlag extends Flag {
  readonly live?: string;
}

/** Words that are names of what is there now, by path. */
const LIVE_WORDS: Readonly<Record<string, string>> = {
  "endpoint get": "endpoints",
  "endpoint delete": "endpoints",
  "endpoint label": "endpoints",
  "endpoint config": "endpoints",
  "policy get": "policies",
  "policy delete": "policies",
  "service get": "services",
  "service delete": "services",
  "service backend": "services",
  "lab exec": "endpoints",
  "lab delete": "endpoints",
  "lab logs": "logs",
  "cluster remove": "nodes",
};
/** Values that are names of what is there now, by flag without from- and to-. */
const LIVE_FLAGS: Readonly<Record<string, string>> = {
  lab: "labs",
  node: "nodes",
  "node-name": "nodes",
  namespace: "namespaces",
  pod: "endpoints",
  service: "services",
  from: "endpoints",
  to: "endpoints",
  verdict: "verdicts",
  "drop-reason": "drop-reasons",
  "drop-reason-desc": "drop-reasons",
  identity: "reserved-identities",
  type: "event-types",
  protocol: "protocols",
  "time-format": "time-formats",
  "group-by": "group-keys",
};

const live = (flag: Flag): LiveFlag => ({
  ...flag,
  live: flag.value === undefined ? undefined : LIVE_FLAGS[flag.name.replace(/^(from|to)-/, "")],
});

/** Where the cursor may be: after these words. */
export interface CompletionNode {
  /** Words so far without "weir" and flags: "", "service", "service pool", "service pool list". */
  readonly path: string;
  /** Words that may come next, and what they are. */
  readonly words: Readonly<Record<string, string>>;
  readonly flags: readonly LiveFlag[];
  /** Names of this kind may come next, as `weir completion names` prints them. */
  readonly live?: string;
  /** Files may come next. */
  readonly files: boolean;
}

const HELP_FLAG: Flag = {
  name: "help",
  short: "h",
  repeated: false,
  text: "-h, --help",
  says: "what it does",
};

/** Values that are files or directories. */
export function takesFile(value: string | undefined): boolean {
  return value !== undefined && /^(FILE|DIR|PATH|OBJECT)\b/.test(value);
}

/** All nodes, the empty path first. */
export function completionTree(manuals: Readonly<Record<string, Manual>>): CompletionNode[] {
  const nodes = new Map<string, { -readonly [K in keyof CompletionNode]: CompletionNode[K] }>();
  const globals = [...flagsOf(GLOBAL_FLAGS), HELP_FLAG].map(live);
  const nodeAt = (path: string) => {
    let node = nodes.get(path);
    if (node === undefined) nodes.set(path, node = { path, words: {}, flags: globals, files: false });
    return node;
  };
  const root = nodeAt("");
  for (const [name, { summary, verbs }] of Object.entries(manuals)) {
    root.words = { ...root.words, [name]: summary };
    for (const [verb, { words = "", says, flags }] of Object.entries(verbs)) {
      const parts = verb === "" ? [] : verb.split(" ");
      let path = name;
      for (const [index, part] of parts.entries()) {
        const parent = nodeAt(path);
        parent.words = { [part]: index === parts.length - 1 ? says : part, ...parent.words };
        path += ` ${part}`;
      }
      const node = nodeAt(path);
      node.flags = [
        ...flagsOf(flags).map((flag) => name === "join" || name === "cluster" ? flag : live(flag)),
        ...globals,
      ];
      node.live = LIVE_WORDS[path];
      node.files = takesFile(words);
    }
  }
  const commands = Object.fromEntries(Object.entries(manuals).map(([name, { summary }]) => [name, summary]));
  if (nodes.has("help")) nodeAt("help").words = commands;
  return [...nodes.values()];
}
