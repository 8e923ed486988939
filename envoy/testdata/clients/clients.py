"""Python's cookie jar, with urllib or requests: the first argument says which. Each line of standard input is a method, a path and perhaps a
body; each line of the output a status and a body. The anti-CSRF token is that of the answer that had one last."""

import platform
import sys
import urllib.error
import urllib.request

which, base = sys.argv[1:]
anti_csrf = None

if which == "urllib":
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    version = "Python " + platform.python_version()

    def send(method, url, headers, body):
        request = urllib.request.Request(url, method=method, headers=headers, data=body)
        try:
            answer = opener.open(request)
        except urllib.error.HTTPError as refused:
            answer = refused
        with answer:
            return answer.status, answer.headers, answer.read().decode()
else:
    import requests

    session = requests.Session()
    version = f"requests {requests.__version__}, Python {platform.python_version()}"

    def send(method, url, headers, body):
        answer = session.request(method, url, headers=headers, data=body)
        return answer.status_code, answer.headers, answer.text


print(version, flush=True)
for line in sys.stdin:
    method, path, *body = line.rstrip("\n").split(" ", 2)
    body = "".join(body).encode() if method == "POST" else None
    status, headers, text = send(method, base + path, {"anti-csrf": anti_csrf} if anti_csrf else {}, body)
    anti_csrf = headers.get("anti-csrf", anti_csrf)
    print(status, text.replace("\n", " "), flush=True)
