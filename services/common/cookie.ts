/** Cookies of verdicts that no rule of a policy has. @module */
import { FAILSAFES } from "@weir/proto/numbers";
import type { Rule } from "@weir/proto/policy";

/** Rules have cookies from here on. Below it are 0, for none, and the kinds of the host's fail-safe list. */
export const COOKIE_MIN = 256;
/** What stands where a policy's kind does. */
export const FAILSAFE_KIND = "FailSafe";

/** The rule that the fail-safe list stands for; undefined for a cookie that is none of its kinds. */
export function failsafeRule(cookie: number): Rule | undefined {
  const name = FAILSAFES.find(({ number }) => number === cookie)?.text;
  if (name === undefined) return undefined;
  const source = { policy: `failsafe:${name}`, kind: FAILSAFE_KIND, namespace: "", policyName: name };
  return {
    cookie,
    sources: [{ ...source, path: "", file: "", line: 0, labels: [] }],
    defaultDeny: false,
    direction: "DIRECTION_UNSPECIFIED",
  };
}
