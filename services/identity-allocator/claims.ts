/**
 * Claims: running endpoints say which numbers they use, after the database has forgotten it.
 *
 * | number N of the claim      | its labels have no number     | they have N | they have M                     |
 * | -------------------------- | ----------------------------- | ----------- | ------------------------------- |
 * | is free                    | (N, labels) is made           |             | IDENTITY_MOVED: move to M       |
 * | belongs to other labels    | IDENTITY_TAKEN: a new number  |             | IDENTITY_MOVED: move to M       |
 * | is none of this cluster's  | IDENTITY_OUT_OF_RANGE: a new number |       | IDENTITY_OUT_OF_RANGE: move to M |
 *
 * A new number waits for the end of the grace: the result has no identity then, and the endpoint keeps what it has. A number
 * that an endpoint uses and does not get is kept from others until it has moved.
 * @module
 */
import type { Claim, ClaimResult, Identity } from "@weir/proto/identity";
import type { Init } from "@weir/proto";
import { ProblemError } from "@weir/common";
import type { StoreTransaction } from "@weir/common/state";
import { checkName, parseLabels } from "./arguments.ts";
import type { AllocatorParts } from "./config.ts";
import { fixedIdentity } from "./fixed_identity.ts";
import type { HolderName, IdentityWriter } from "./identity_writer.ts";
import type { NumberSource } from "./number_source.ts";

/** Claims in one request. */
export const CLAIMS_MAX = 512;
/** Claims that are judged in one transaction. */
export const CLAIMS_AT_ONCE = 64;

/** What judging claims needs. */
export interface ClaimSurroundings {
  store: StoreTransaction;
  writer: IdentityWriter;
  numbers: NumberSource;
  parts: AllocatorParts;
  /** False when it is known why the database has not what this node claims: it was given up. */
  isEvidence: boolean;
}

/** Too many claims at once. @throws {ProblemError} */
export function checkClaims(count: number): void {
  if (count <= CLAIMS_MAX) return;
  throw new ProblemError("TOO_MANY_CLAIMS", {
    status: 413,
    detail: `Cannot take ${count} claims at once: at most ${CLAIMS_MAX}`,
    found: count,
    expected: `at most ${CLAIMS_MAX} claims in one request`,
    action: "Claim for the endpoints of one node, in several requests",
  });
}

/** The results of the claims of one node, in their order. */
export async function judgeClaims(
  around: ClaimSurroundings,
  node: string,
  claims: readonly Claim[],
): Promise<Init<ClaimResult>[]> {
  const results: Init<ClaimResult>[] = [];
  for (const claim of claims) {
    try {
      results.push({ holder: claim.holder, ...await judge(around, node, claim) });
    } catch (error) {
      // One bad claim keeps no other from being heard.
      if (!(error instanceof ProblemError)) throw error;
      results.push({ holder: claim.holder, code: error.code, detail: error.message });
    }
  }
  return results;
}

async function judge(around: ClaimSurroundings, node: string, claim: Claim): Promise<Init<ClaimResult>> {
  const { store, writer, numbers, parts } = around;
  checkName("holder", claim.holder);
  const holder = { node, holder: claim.holder };
  await writer.checkRoom(holder);
  const given = parseLabels(claim.labels);
  const labels = parts.config.labelFilter.apply(given);
  const { number } = claim;
  const fixed = fixedIdentity(labels);
  if (fixed !== undefined) {
    await writer.dropHolder(holder);
    const identity = { number: fixed.number, labels: fixed.labels.toStrings() };
    if (number === fixed.number) return { identity };
    await numbers.keep(store.tx, node, number);
    return moved("IDENTITY_MOVED", number, identity);
  }
  const known = await writer.numberOf(labels);
  if (known === number) {
    await writer.hold(holder, number, labels);
    return { identity: { number, labels: labels.toStrings() } };
  }
  if (around.isEvidence) await numbers.sawPast(store.tx);
  const { min, max } = numbers.range;
  const inRange = number >= min && number <= max;
  const free = inRange && !await writer.isTaken(number);
  if (free && known === undefined && given.equals(labels)) {
    await numbers.insert(store.tx, number, labels.key);
    await writer.hold(holder, number, labels);
    return { identity: { number, labels: labels.toStrings() } };
  }
  if (free) await numbers.keep(store.tx, node, number);
  const code = !inRange
    ? "IDENTITY_OUT_OF_RANGE"
    : !given.equals(labels)
    ? "LABELS_FILTERED"
    : known !== undefined
    ? "IDENTITY_MOVED"
    : "IDENTITY_TAKEN";
  return moved(code, number, await otherIdentity(around, holder, labels));
}

/** The labels' own number, undefined as long as new ones wait. */
async function otherIdentity(
  { writer }: ClaimSurroundings,
  holder: HolderName,
  labels: Parameters<IdentityWriter["allocate"]>[1],
): Promise<Identity | undefined> {
  try {
    return (await writer.allocate(holder, labels)).identity;
  } catch (error) {
    if ((error as ProblemError).code === "CLAIMS_PENDING") return undefined;
    throw error;
  }
}

const REASONS = {
  IDENTITY_MOVED: "the labels have another number",
  IDENTITY_TAKEN: "the number belongs to other labels",
  IDENTITY_OUT_OF_RANGE: "the number is none that this cluster hands out",
  LABELS_FILTERED: "the label filter leaves out some of these labels",
};

function moved(
  code: keyof typeof REASONS,
  number: number,
  identity: Init<Identity> | undefined,
): Init<ClaimResult> {
  const then = identity === undefined
    ? "allocate answers another one when all claims were heard"
    : `use ${identity.number}`;
  return { identity, code, detail: `Cannot grant identity ${number}: ${REASONS[code]}; ${then}` };
}
