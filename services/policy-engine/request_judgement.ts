/** What L7 rules say of one request within a connection that is allowed: by the evaluator that the proxy runs. @module */
import { compileRuleSet, type L7Request, type NearMiss, unionOfRuleSets } from "@weir/l7-rules";
import type { RuleSet } from "@weir/proto/l7";
import type { ExplainStep } from "@weir/proto/policy";
import { type AskedRequest, kindWords, ruleFor, wordsOfRequest } from "./asked_request.ts";
import type { Decision } from "./decision.ts";
import { formatSource, listOf } from "./explain_words.ts";

/** What changes of a step. */
type Judged =
  & Partial<Pick<ExplainStep, "allowed" | "reason" | "rule" | "change" | "nearMiss" | "alternatives">>
  & {
    /** Beside those of the connection. */
    readonly more?: readonly string[];
  };

const NO_KEYSPACE = "a table is named without its keyspace: judged is a connection before any USE";

/** Says more than the verdict about the connection; nothing where there are no L7 rules and no request. */
export function judgeRequest({ pair, verdict }: Decision, asked: AskedRequest | undefined): Judged {
  if (!verdict.allowed) return {};
  if (verdict.ruleSets.length === 0) {
    return asked ? { more: ["no L7 rules are about this port here: every request passes"] } : {};
  }
  const sets = verdict.ruleSets.map((id) => pair.state.message.ruleSets.find((set) => set.id === id))
    .filter((set): set is RuleSet => set !== undefined);
  if (sets.length === 0) return {};
  const set = unionOfRuleSets(sets, verdict.plainCookie);
  const placesOf = (cookie: number) => (pair.rule(cookie)?.sources ?? []).map(formatSource);
  const kind = kindWords(set.kind), rules = listOf(set.deniedBy);
  if (asked === undefined) {
    return { more: [`the L7 proxy judges each request by ${kind} rules: ${rules}`] };
  }
  const compiled = compileRuleSet(set), { request } = asked;
  const judgement = compiled.judge(request), rule = pair.rule(judgement.cookie);
  const members = membersOf(request).map((member) => ({
    member,
    judgement: compiled.judge(member),
    misses: compiled.nearMisses(member),
  }));
  const more = asked.isOpen ? [NO_KEYSPACE] : [];
  if (judgement.allowed) {
    const by = [...new Set(members.flatMap(({ judgement }) => placesOf(judgement.cookie)))];
    // These pass by no rule, so nothing is there to remove.
    if (by.length === 0) {
      const what = request.kind === "MEMCACHE" ? request.command : "USE";
      return {
        reason: `Allowed: ${what} always passes, it reads nothing`,
        change: "",
        alternatives: [],
        more,
      };
    }
    const allowing = [
      ...members.flatMap(({ misses }) => misses.filter(({ lacks }) => lacks.length === 0))
        .map(({ cookie }) => cookie),
      ...set.unrestricted ? [set.unrestrictedCookie] : [],
    ].flatMap(placesOf);
    const remove = [...new Set(allowing.length > 0 ? allowing : by)];
    return {
      reason: `Allowed by ${listOf(by)}`,
      rule,
      change: `Remove ${listOf(remove)}`,
      alternatives: [],
      more,
    };
  }
  if (request.kind !== set.kind) {
    const reason = `Denied: the port has ${kind} rules, ${rules}, and this is no ${kind} request`;
    return {
      allowed: false,
      reason,
      rule,
      nearMiss: "",
      change: `Ask for a ${kind} request, or for another port`,
      alternatives: [],
      more,
    };
  }
  const denied = members.filter(({ judgement }) => !judgement.allowed);
  const what = denied.map(({ member }) => wordsOfRequest({ ...asked, request: member }));
  return {
    allowed: false,
    reason: `Denied: no ${kind} rule of ${rules} allows ${listOf(what)}`,
    rule,
    nearMiss: asked.unread !== "" ? "" : nearestOf(denied[0]?.misses ?? [], placesOf),
    change: changeFor(asked, denied.map(({ member }) => member), set.deniedBy[0] ?? "its rules"),
    alternatives: [],
    more,
  };
}

/** What is to be added to a list of rules, or what is to be asked instead. */
function changeFor({ unread, isOpen }: AskedRequest, denied: readonly L7Request[], list: string): string {
  if (unread !== "") {
    return "Send one statement of CQL that can be read: what cannot be is for those alone who may do everything";
  }
  // A rule about the bare name would mean a table that no server has.
  if (isOpen) {
    return "Name the table with its keyspace, or say which keyspace the connection is in (--keyspace)";
  }
  const needed = new Set<string>();
  for (const member of denied) {
    const rule = ruleFor(member);
    if (rule === undefined) {
      if (member.kind === "TLS") return "Name the server: no rule means a client that names none";
      const what = wordsOfRequest({ request: member, unread, isOpen });
      return `Only a rule without query_action and query_table allows ${what}, and it allows everything: no rule can name it`;
    }
    needed.add(rule);
  }
  return `Add ${listOf([...needed])} to ${list}`;
}

/** Each statement of a batch and each key is judged for itself; other requests are whole. */
function membersOf(request: L7Request): L7Request[] {
  if (request.kind === "MEMCACHE" && request.keys.length > 0) {
    return request.keys.map((key) => ({ ...request, keys: [key] }));
  }
  if (request.kind !== "CASSANDRA") return [request];
  return request.statements.map((statement) => ({ kind: "CASSANDRA", statements: [statement] }));
}

function nearestOf([nearest]: readonly NearMiss[], placesOf: (cookie: number) => string[]): string {
  return nearest === undefined ? "" : `${listOf(placesOf(nearest.cookie))}: ${nearest.lacks.join(", and ")}`;
}
