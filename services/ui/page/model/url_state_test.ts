import assert from "node:assert/strict";
import { formatUrlState, otherPage, readUrlState, URL_STATE_DEFAULT, type UrlState } from "./url_state.ts";

const read = (address: string) => {
  const [path, query = ""] = address.split(/\?(.*)/s);
  return readUrlState(path, query);
};

Deno.test("readUrlState() reads what formatUrlState() writes", () => {
  const cases: Partial<UrlState>[] = [
    {},
    { page: "flows", filter: "from-pod=shop/cart not verdict=FORWARDED & 100% +x" },
    { page: "drops", window: { sinceUnixS: 1_780_000_000, untilUnixS: 1_780_000_300.5 }, selected: "a>b:80" },
    { group: "label:app.kubernetes.io/name", islands: ["+ns:shop", "-ns:a b"] },
    { page: "policies", policy: "cnp:shop/cart" },
    { page: "flows", columns: ["time", "verdict"] },
  ];
  for (const part of cases) {
    const state = { ...URL_STATE_DEFAULT, ...part };
    assert.deepEqual(read(formatUrlState(state)), state, formatUrlState(state));
  }
});

Deno.test("formatUrlState() keeps addresses readable", () => {
  assert.equal(formatUrlState(URL_STATE_DEFAULT), "map");
  assert.equal(
    formatUrlState({ ...URL_STATE_DEFAULT, page: "flows", filter: "from-pod=shop/cart" }),
    "flows?q=from-pod=shop/cart",
  );
});

Deno.test("readUrlState() takes anything", () => {
  for (const address of ["", "nowhere", "flows?since=x&until=y", "flows?since=2026-01-02&until=2026-01-01"]) {
    assert.equal(read(address).window, null);
  }
  assert.equal(read("nowhere").page, "map");
  assert.equal(read("map?group=label:").group, "workload");
  assert.equal(read(`map?q=${"x".repeat(9000)}`).filter.length, 2000);
  assert.deepEqual(read("map?island=x&island=-ns:a").islands, ["-ns:a"]);
  assert.deepEqual(read("flows?columns=time,<script>,verdict").columns, ["time", "verdict"]);
});

Deno.test("otherPage() keeps time and filter and closes what was open", () => {
  const state = { ...URL_STATE_DEFAULT, filter: "port=80", selected: "world", policy: "cnp:a/b" };
  assert.deepEqual(otherPage(state, "flows"), { ...URL_STATE_DEFAULT, page: "flows", filter: "port=80" });
});
