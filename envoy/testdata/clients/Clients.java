// Java's two HTTP clients, with the cookies that java.net keeps: the first argument says which. Each line of standard input is a method, a
// path and perhaps a body; each line of the output a status and a body. The anti-CSRF token is that of the answer that had one last.

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.net.CookieHandler;
import java.net.CookieManager;
import java.net.HttpURLConnection;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;

class Clients {
    static String antiCSRF;

    public static void main(String[] args) throws Exception {
        CookieHandler cookies = new CookieManager();
        CookieHandler.setDefault(cookies); // of HttpURLConnection
        HttpClient client = HttpClient.newBuilder().cookieHandler(cookies).build();
        System.out.println("Java " + System.getProperty("java.version"));
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = in.readLine()) != null; ) {
            String[] words = line.split(" ", 3);
            URI uri = URI.create(args[1] + words[1]);
            String body = words.length > 2 ? words[2] : "";
            String answer = args[0].equals("HttpClient") ? http(client, words[0], uri, body) : url(words[0], uri, body);
            System.out.println(answer.replace("\n", " "));
        }
    }

    static String http(HttpClient client, String method, URI uri, String body) throws Exception {
        HttpRequest.Builder request = HttpRequest.newBuilder(uri).method(method,
                body.isEmpty() ? HttpRequest.BodyPublishers.noBody() : HttpRequest.BodyPublishers.ofString(body));
        if (antiCSRF != null) {
            request.header("anti-csrf", antiCSRF);
        }
        HttpResponse<String> answer = client.send(request.build(), HttpResponse.BodyHandlers.ofString());
        antiCSRF = answer.headers().firstValue("anti-csrf").orElse(antiCSRF);
        return answer.statusCode() + " " + answer.body();
    }

    static String url(String method, URI uri, String body) throws IOException {
        HttpURLConnection connection = (HttpURLConnection) uri.toURL().openConnection();
        connection.setRequestMethod(method);
        if (antiCSRF != null) {
            connection.setRequestProperty("anti-csrf", antiCSRF);
        }
        if (method.equals("POST")) {
            connection.setDoOutput(true);
            connection.getOutputStream().write(body.getBytes(StandardCharsets.UTF_8));
        }
        int status = connection.getResponseCode();
        if (connection.getHeaderField("anti-csrf") != null) {
            antiCSRF = connection.getHeaderField("anti-csrf");
        }
        try (InputStream in = status < 400 ? connection.getInputStream() : connection.getErrorStream()) {
            return status + " " + (in == null ? "" : new String(in.readAllBytes(), StandardCharsets.UTF_8));
        }
    }
}
