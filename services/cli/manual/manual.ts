/**
 * What a command's help is made of: its verbs, their words and flags. `weir help`, shell completion and man pages are made from
 * it, and `manual_test.ts` compares it with what the parsers accept.
 *
 * @module
 */

/** Flags by how they are written: "-o, --output table|json", "--label KEY=VALUE..." (may be repeated), "--wait"; and what they do. */
export type FlagTexts = Readonly<Record<string, string>>;

/** One verb of a command. */
export interface VerbManual {
  /** What follows the verb, as a synopsis: "NAME KEY=VALUE...". */
  readonly words?: string;
  readonly says: string;
  readonly flags?: FlagTexts;
}

/** One command. */
export interface Manual {
  readonly summary: string;
  /** By the words after the command: "list", "pool list"; "" when there are none. */
  readonly verbs: Readonly<Record<string, VerbManual>>;
  /** What else a person must know, and examples; lines as they are printed. */
  readonly notes?: string;
}

/** One flag, taken apart. */
export interface Flag {
  /** Without dashes. */
  readonly name: string;
  readonly short?: string;
  /** What stands for the value; undefined: a switch. */
  readonly value?: string;
  /** The only values there are. */
  readonly choices?: readonly string[];
  readonly repeated: boolean;
  /** As it was written. */
  readonly text: string;
  readonly says: string;
}

const FLAG = /^(?:-([A-Za-z0-9]), )?--([a-z0-9][a-z0-9-]*)(?: (\S+?))?(\.\.\.)?$/;

/** The flags of a verb. @throws {Error} for one that is not written as {@link FlagTexts} says */
export function flagsOf(flags: FlagTexts = {}): Flag[] {
  return Object.entries(flags).map(([text, says]) => {
    const match = FLAG.exec(text);
    if (match === null) throw new Error(`Cannot read the flag "${text}": expected "-s, --name VALUE..."`);
    const [, short, name, value, dots] = match;
    const choices = /^[a-z0-9-]+(\|[a-z0-9-]+)+$/.test(value ?? "") ? value.split("|") : undefined;
    return { short, name, value, choices, repeated: dots !== undefined, text, says };
  });
}

/** Of every command. */
export const GLOBAL_FLAGS: FlagTexts = {
  "--lab NAME": "the lab that is meant (default: the only lab there is, else this host's own Weir)",
  "--node NAME": "the node that is meant",
  "--server ADDRESS": "talk to this address instead: unix:/path/to.sock, http://host:port",
  "--kubernetes": "a Kubernetes cluster is meant, by its API server, and not this host",
  "--kubeconfig FILE": "which cluster, and that one is meant (default: KUBECONFIG, else ~/.kube/config)",
  "--context NAME": "context of the kubeconfig, and a cluster is meant (default: its current one)",
  "--weir-namespace NAME": "where Weir is in the cluster, and that one is meant (default weir-system)",
};

/** Of every command. */
export const EXIT_CODES: Readonly<Record<string, string>> = {
  "0": "done",
  "1": "failed, or not well",
  "2": "wrong usage",
  "3": `the answer is "denied"`,
  "4": "allowed by policy, and it cannot work",
};

/** Of verbs that answer with a table. */
export const OUTPUT: FlagTexts = { "-o, --output table|wide|json|yaml": "form of the answer" };
/** Of verbs that mean one namespace. */
export const NAMESPACE: FlagTexts = { "-n, --namespace NAMESPACE": "the namespace that is meant" };
/** Of verbs that read manifests. */
export const FILES: FlagTexts = { "-f, --file FILE|DIR|-...": "manifests; of a directory every one in it" };
