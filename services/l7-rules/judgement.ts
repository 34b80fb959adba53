/** What is said of a request, and the form that all kinds of rules have. @module */

/** What a rule set says of one request. */
export interface Judgement {
  readonly allowed: boolean;
  /** The rule that allows; of a denial the rules that redirect (`RuleSet.denied_cookie`). */
  readonly cookie: number;
  /** HTTP: what rules do to the headers, in their order. */
  readonly headers: readonly HeaderChange[];
  /** HTTP: names of headers that a rule wants to be recorded as missing. */
  readonly missingHeaders: readonly string[];
  /** Of a denial, which parts of it nothing allows: topics, keys, places of statements; empty where it has no parts. */
  readonly denied: readonly string[];
}

/** What becomes of one header. */
export interface HeaderChange {
  /** ADD puts one beside those that are there, DELETE removes all of the name, REPLACE is DELETE, then ADD. */
  readonly action: "ADD" | "DELETE" | "REPLACE";
  readonly name: string;
  readonly value: string;
}

/** One thing that a rule asks of a request. */
export interface Condition<R> {
  readonly holds: (request: R) => boolean;
  /** Why it does not hold: `path "/public/x" is not "/public"`. */
  readonly lacks: (request: R) => string;
}

/** One rule of a set, ready. */
export interface CompiledRule<R> {
  readonly cookie: number;
  readonly conditions: readonly Condition<R>[];
}

/** One rule and what of it a request does not meet. */
export interface NearMiss {
  readonly cookie: number;
  readonly lacks: readonly string[];
}

/** Whether a rule means the whole request. */
export function means<R>({ conditions }: CompiledRule<R>, request: R): boolean {
  for (const { holds } of conditions) if (!holds(request)) return false;
  return true;
}

/** The rules by how little is missing, those that lack least first. */
export function nearMisses<R>(rules: readonly CompiledRule<R>[], request: R): NearMiss[] {
  return rules.map(({ cookie, conditions }) => ({
    cookie,
    lacks: conditions.filter(({ holds }) => !holds(request)).map(({ lacks }) => lacks(request)),
  })).sort((a, b) => a.lacks.length - b.lacks.length);
}

const NOTHING: readonly never[] = [];

/** An allowed request of which nothing else is to be said. */
export function allowedBy(cookie: number): Judgement {
  return { allowed: true, cookie, headers: NOTHING, missingHeaders: NOTHING, denied: NOTHING };
}

/** A denied one. */
export function deniedBy(cookie: number, denied: readonly string[] = NOTHING): Judgement {
  return { allowed: false, cookie, headers: NOTHING, missingHeaders: NOTHING, denied };
}

/** A text of a request in a message: quoted, cut. */
export function shown(text: string): string {
  return JSON.stringify(text.length > 200 ? `${text.slice(0, 200)}…` : text);
}
