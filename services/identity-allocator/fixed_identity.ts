/** Identities whose number is part of their meaning: nobody allocates them. @module */
import {
  IDENTITY_ALLOCATED_MIN,
  IDENTITY_INIT,
  invalidArgument,
  LabelSet,
  reservedIdentityNumber,
  SOURCE_RESERVED,
} from "@weir/common";

/** Label that asks for a user-reserved number, 128 to 255. */
export const LABEL_FIXED_IDENTITY = "io.cilium.fixed-identity";
/** The first number that users may fix. */
export const IDENTITY_FIXED_MIN = 128;

/** The identity of these labels when it is fixed. @throws {ProblemError} a fixed number that users may not have */
export function fixedIdentity(labels: LabelSet): { number: number; labels: LabelSet } | undefined {
  if (labels.size === 0) {
    return { number: IDENTITY_INIT, labels: LabelSet.parse(["reserved:init"]) };
  }
  for (const label of labels) {
    if (label.key === LABEL_FIXED_IDENTITY) {
      const number = Number(label.value);
      if (!Number.isInteger(number) || number < IDENTITY_FIXED_MIN || number >= IDENTITY_ALLOCATED_MIN) {
        throw invalidArgument(`Cannot take the label ${LABEL_FIXED_IDENTITY}`, {
          found: label.value,
          expected: `${IDENTITY_FIXED_MIN} to ${IDENTITY_ALLOCATED_MIN - 1}`,
        });
      }
      return { number, labels: LabelSet.from([label]) };
    }
  }
  const reserved = [...labels].filter((label) => label.source === SOURCE_RESERVED);
  if (reserved.length === 1 && labels.size === 1) {
    const number = reservedIdentityNumber(reserved[0].key);
    if (number !== undefined) return { number, labels };
  }
  return undefined;
}
