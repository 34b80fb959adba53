/** One thing on the way of a connection, in the order in which a packet meets it. @module */

/** What a stage does to the connection. */
export type StageState =
  /** It lets it through. */
  | "ok"
  /** Policy denies it. */
  | "denied"
  /** It cannot work here. */
  | "broken"
  /** Who knows did not answer. */
  | "unknown";

/** One stage. */
export interface Stage {
  /** What it is: "source", "service", "egress", "ingress", "path", "destination", "socket", "traffic". */
  readonly kind: string;
  /** What it is about: `shop/web-1`; "" where the kind says it. */
  readonly subject: string;
  readonly state: StageState;
  /** One sentence, or the first line of an answer. */
  readonly message: string;
  /** Facts behind it, by what they are: ["because", "..."]. */
  readonly details: readonly (readonly [string, string])[];
  /** What to do about it, the smallest first. */
  readonly fixes: readonly string[];
  /** A manifest that does it, ready for `weir policy apply -f -`. */
  readonly manifest: string;
}

/** A stage with what is not said left empty. */
export function stage(
  kind: string,
  subject: string,
  state: StageState,
  message: string,
  rest: Partial<Pick<Stage, "details" | "fixes" | "manifest">> = {},
): Stage {
  return { kind, subject, state, message, details: [], fixes: [], manifest: "", ...rest };
}
