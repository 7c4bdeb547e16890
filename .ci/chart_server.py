"""The little of a Kubernetes API that Helm 3 asks for before it installs by dry run: its version, and which kinds there are."""

import contextlib
import http.server
import json
import threading

NOT_FOUND = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}


@contextlib.contextmanager
def serving(objects):
    """The address of a server that knows the kinds of these objects and holds none."""
    answers = {"/version": {"major": "1", "minor": "34", "gitVersion": "v1.34.0"}, "/api": {"kind": "APIVersions", "versions": ["v1"]}}
    groups = {}
    for version in sorted({thing["apiVersion"] for thing in objects}):
        kinds = sorted({thing["kind"] for thing in objects if thing["apiVersion"] == version})
        resources = [{"name": f"{kind.lower()}s", "singularName": "", "namespaced": True, "kind": kind, "verbs": ["get", "create"]} for kind in kinds]
        answers[f"/apis/{version}" if "/" in version else f"/api/{version}"] = {
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}
        if "/" in version:
            groups[version] = {"name": version.partition("/")[0], "versions": [{"groupVersion": version, "version": version.partition("/")[2]}]}
    answers["/apis"] = {"kind": "APIGroupList", "apiVersion": "v1", "groups": list(groups.values())}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            answer = answers.get(self.path.partition("?")[0])
            self.send_response(200 if answer else 404)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(answer or NOT_FOUND).encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
