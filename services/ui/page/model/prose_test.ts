import assert from "node:assert/strict";
import { breakPieces, withoutFolders } from "./prose.ts";

Deno.test("withoutFolders() leaves names of manifests, and all other paths and addresses", () => {
  for (
    const [text, expected] of [
      ["cnp:shop/redis spec.ingress[0]", "cnp:shop/redis spec.ingress[0]"],
      ["(/srv/net/policies.yaml:31) means", "(policies.yaml:31) means"],
      ["/etc/weir/all.yml", "all.yml"],
      ["spec (tests/ui/shop/policies.yaml:11)", "spec (policies.yaml:11)"],
      ["GET /v1/flows of 10.0.0.0/8", "GET /v1/flows of 10.0.0.0/8"],
    ]
  ) assert.equal(withoutFolders(text), expected);
});

Deno.test("breakPieces() breaks long names after their signs, and nowhere else", () => {
  assert.deepEqual(breakPieces("k8s:io.pod=shop, app"), ["k8s:", "io.", "pod=", "shop, app"]);
  assert.deepEqual(breakPieces("app=cart,k8s:io.pod=shop", "sentence"), ["app=cart,", "k8s:io.pod=shop"]);
  assert.deepEqual(breakPieces("end."), ["end."]);
  assert.equal(breakPieces("a.b/c=d,e:f").join(""), "a.b/c=d,e:f");
});
