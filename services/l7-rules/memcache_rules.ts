/** Rules about memcached commands: a command or a group of them, and its keys. @module */
import type { MemcacheRule } from "@weir/proto/l7";
import {
  allowedBy,
  type CompiledRule,
  type Condition,
  deniedBy,
  type Judgement,
  means,
  shown,
} from "./judgement.ts";
import { compilePattern, RuleFault } from "./pattern.ts";
import type { MemcacheRequest } from "./request.ts";

const STORAGE = ["add", "set", "replace", "append", "prepend", "cas", "incr", "decr"];
/** Words of rules that mean several commands, or a command under its older names too. */
const GROUPS: Readonly<Record<string, readonly string[]>> = {
  storage: STORAGE,
  writeGroup: [...STORAGE, "delete", "touch"],
  get: ["get", "gets"],
  gat: ["gat", "gats"],
};
/** Words that mean one command. */
const SINGLE = [
  ...STORAGE,
  ..."delete touch slabs lru lru_crawler watch stats flush_all cache_memlimit version misbehave quit".split(
    " ",
  ),
  ..."noop verbosity sasl-list-mechs sasl-auth sasl-step mg ms md ma mn me".split(" "),
];

/** What `command` may be. */
export const MEMCACHE_COMMANDS: readonly string[] = [...Object.keys(GROUPS), ...SINGLE].sort();

/** What always passes: who a client is, that it is there, and that it goes. It reads no item and changes none. */
const ALWAYS: ReadonlySet<string> = new Set(
  ["noop", "mn", "quit", "sasl-list-mechs", "sasl-auth", "sasl-step"],
);

/** @throws {RuleFault} */
export function compileMemcacheRule(rule: MemcacheRule): CompiledRule<MemcacheRequest> {
  const keyed = [rule.keyExact, rule.keyPrefix, rule.keyRegex].filter((key) => key !== "").length;
  if (keyed > 1) throw new RuleFault("want at most one of keyExact, keyPrefix and keyRegex");
  if (rule.command === "") {
    if (keyed > 0) throw new RuleFault("has a key and no command");
    return { cookie: rule.cookie, conditions: [] };
  }
  if (!MEMCACHE_COMMANDS.includes(rule.command)) {
    throw new RuleFault(`${shown(rule.command)} is no command of memcached that is known`);
  }
  const commands = new Set(GROUPS[rule.command] ?? [rule.command]);
  const conditions: Condition<MemcacheRequest>[] = [{
    holds: ({ command }) => commands.has(command),
    lacks: ({ command }) => `command ${shown(command)} is not ${shown(rule.command)}`,
  }];
  const isKey = keyMatcher(rule);
  if (isKey !== undefined) {
    conditions.push({
      holds: ({ keys }) => keys.length > 0 && keys.every(isKey),
      lacks: ({ keys }) =>
        `key ${shown(keys.find((key) => !isKey(key)) ?? "")} is not ${
          shown(rule.keyExact || rule.keyPrefix || rule.keyRegex)
        }`,
    });
  }
  return { cookie: rule.cookie, conditions };
}

/** Every key must be in some rule. @param deniedCookie of a command of which one is in none */
export function judgeMemcache(
  rules: readonly CompiledRule<MemcacheRequest>[],
  request: MemcacheRequest,
  deniedCookie: number,
): Judgement {
  if (ALWAYS.has(request.command)) return allowedBy(0);
  const whole = rules.find((rule) => means(rule, request));
  if (whole !== undefined) return allowedBy(whole.cookie);
  const denied = request.keys.filter((key) =>
    !rules.some((rule) => means(rule, { ...request, keys: [key] }))
  );
  if (request.keys.length === 0 || denied.length > 0) return deniedBy(deniedCookie, denied);
  return allowedBy(rules.find((rule) => means(rule, { ...request, keys: [request.keys[0]] }))!.cookie);
}

function keyMatcher({ keyExact, keyPrefix, keyRegex }: MemcacheRule): ((key: string) => boolean) | undefined {
  if (keyExact !== "") return (key) => key === keyExact;
  if (keyPrefix !== "") return (key) => key.startsWith(keyPrefix);
  if (keyRegex === "") return undefined;
  return compilePattern(keyRegex).isPart;
}
