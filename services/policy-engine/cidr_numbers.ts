/**
 * Which number a prefix is to have. The first choice is a hash of the prefix, so that a prefix that comes back, in another
 * life or after a database was restored to an older copy, gets the number that kernels may still hold for it, and
 * another prefix hardly ever does.
 * @module
 */
import { IDENTITY_LOCAL_MAX, IDENTITY_LOCAL_MIN } from "@weir/common";
import { fnv1a } from "./hash.ts";

/** First number; the lowest one of the scope stays free, as in Cilium. */
export const CIDR_NUMBER_MIN: number = IDENTITY_LOCAL_MIN + 1;

/** Number of the choices that {@link cidrNumberChoice} has for a prefix before any free number will do. */
export const CIDR_NUMBER_CHOICES = 32;

/**
 * The number that a prefix asks for.
 * @param attempt 0 for the first; more when the one before belongs to another prefix, or rests
 */
export function cidrNumberChoice(prefix: string, attempt: number): number {
  // The attempt comes first: prefixes that collide in one attempt go apart in the next.
  return CIDR_NUMBER_MIN + fnv1a(`${attempt}:${prefix}`) % (IDENTITY_LOCAL_MAX - CIDR_NUMBER_MIN + 1);
}

/** Where the numbers of prefixes come from. */
export interface CidrNumbers {
  /** The number of a prefix; undefined while it has none. */
  numberOf(prefix: string): number | undefined;
}

/** Numbers of one process that shares them with nobody: for files that are looked at, and for tests. */
export class OwnCidrNumbers implements CidrNumbers {
  readonly #numbers = new Map<string, number>();
  readonly #taken = new Set<number>();

  numberOf(prefix: string): number {
    let number = this.#numbers.get(prefix);
    if (number !== undefined) return number;
    for (let attempt = 0; number === undefined || this.#taken.has(number); attempt++) {
      number = cidrNumberChoice(prefix, attempt);
    }
    this.#numbers.set(prefix, number);
    this.#taken.add(number);
    return number;
  }
}
