/**
 * Precedence of map state entries: which of two that cover a connection decides.
 *
 * ```
 *  31                     8 7        0
 * +------------------------+----------+
 * |   inverted priority    |   kind   |   kind: 255 deny, 2 with L7 rules, 1 plain allow, 0 pass
 * +------------------------+----------+
 *
 * priority  0         4_194_304      8_388_608        16_777_214
 *           Admin     ordinary       Baseline         allow-all behind every rule
 * ```
 *
 * @module
 */

/** The tiers of policies in the order in which they are asked; the last one is the allow-all behind every rule. */
export const TIERS = ["Admin", "Ordinary", "Baseline", "Open"] as const;
export type Tier = (typeof TIERS)[number];

/** Priority of the first rule of each tier. */
const TIER_STARTS: Readonly<Record<Tier, number>> = {
  Admin: 0,
  Ordinary: 0x40_0000,
  Baseline: 0x80_0000,
  Open: 0xff_fffe,
};

/** Most rules that one policy of a tier may have in one direction. */
export const TIER_RULES_MAX = 256;
/** Highest priority number of a policy of a tier. */
export const TIER_PRIORITY_MAX = 1000;

/** Priority of a rule of an ordered tier. @param priority of its policy @param index of the rule in its direction */
export function tierPriority(tier: Tier, priority: number, index: number): number {
  return TIER_STARTS[tier] + priority * TIER_RULES_MAX + index;
}

/** Priority of the rules of ordinary policies, among which there is no order. */
export const PRIORITY_ORDINARY = tierPriority("Ordinary", 0, 0);

/** Precedence of an entry: the inverted priority in the upper 24 bits, below it 255 for deny and 1 for plain allow. */
export function precedence(priority: number, deny: boolean): number {
  return precedenceOf(priority, deny ? 255 : 1);
}

/** Precedence of an entry that passes its traffic on to the next tier. */
export function passPrecedence(priority: number): number {
  return precedenceOf(priority, 0);
}

function precedenceOf(priority: number, kind: number): number {
  return (0xff_ffff - priority) * 256 + kind;
}

/** The tier that an entry of this precedence belongs to. */
export function tierOf(precedence: number): Tier {
  const priority = 0xff_ffff - Math.floor(precedence / 256);
  return TIERS.findLast((tier) => priority >= TIER_STARTS[tier])!;
}

/** Precedence of a deny and of a plain allow of an ordinary policy. */
export const PRECEDENCE_DENY: number = precedence(PRIORITY_ORDINARY, true);
export const PRECEDENCE_ALLOW: number = precedence(PRIORITY_ORDINARY, false);
/** Of an allow with L7 rules: above a plain one, so that what has such rules at all goes to the proxy, which knows both. */
export const PRECEDENCE_REDIRECT: number = PRECEDENCE_ALLOW + 1;
/** Of the default deny of policies in audit mode, behind all else that these say. */
export const PRECEDENCE_AUDIT_DEFAULT: number = precedence(PRIORITY_ORDINARY + 1, true);
/** Of the allow-all where no policy closes a direction. */
export const PRECEDENCE_ALLOW_ALL: number = precedence(TIER_STARTS.Open, false);
