/**
 * What the page and its server say to each other. Types alone: nothing of this is left when it runs.
 *
 * Every path is below the base path, which the page reads from `document.baseURI` (the server writes `<base href>`).
 * All of it is `GET`, but for one question that is too long for an address. Times are Unix seconds (fractions allowed), rates are per second, ages are never sent. A stream is
 * newline-delimited JSON: one object of {@link LiveEvent} or {@link FlowEvent} in a line, a `beat` at least every 5 s. A stream that was
 * cut begins anew with a `snapshot`; so the page throws away what it had.
 *
 * | path | answers |
 * | --- | --- |
 * | `api/session` | {@link Session} |
 * | `api/live?group=&FILTER` | stream of {@link LiveEvent}: map, time strip, totals |
 * | `api/map?group=&FILTER&since=&until=` | {@link MapSnapshot}; of now without `since` |
 * | `api/card?id=&group=&FILTER&since=&until=` | {@link CardDetail}, for the panel |
 * | `api/flows?FILTER&last=&since=&until=` | {@link FlowPage}, newest last |
 * | `api/flows/stream?FILTER&last=` | stream of {@link FlowEvent} |
 * | `api/drops?FILTER&since=&until=` | {@link DropReport}; without `since` of what the server saw since it runs, one hour at most |
 * | `api/drops/explain?cause=ID&FILTER&since=&until=` | {@link DropExplanation} |
 * | `api/explain?FLOW` | {@link Explanation} for `from`, `to` (card ids, pods, addresses), `protocol`, `port` |
 * | `api/policies` | {@link PolicyReport} |
 * | `api/policy?name=cnp:NS/NAME` | {@link PolicyDetail} |
 * | `POST api/preview` `{"text": "...", "sinceH": 24}` | {@link PolicyPreview}: what a policy would do to recorded connections |
 * | `api/health` | {@link HealthReport} |
 * | `api/strip?FILTER&since=&until=&step=` | {@link TimeStrip} |
 * | `api/names` | {@link Names}, for completion |
 *
 * FILTER is the flags of `weir observe` without dashes, `from-pod=shop/cart&verdict=dropped&not-port=53`: the parameters of the
 * flow exporter's `GET /v1/flows`. GROUP is `workload`, `namespace`, `node` or `label:KEY`. `since` and `until` are Unix seconds.
 * Errors are RFC 9457 problem documents, {@link Problem}.
 *
 * @module
 */
export type * from "./api/session.ts";
export type * from "./api/map.ts";
export type * from "./api/flows.ts";
export type * from "./api/drops.ts";
export type * from "./api/policies.ts";
export type * from "./api/health.ts";
