//! What a newcomer types next: the same lines on the page and in the terminal, in a form that works
//! when it is pasted.

/// The name in the examples, which the first admin is free to keep.
const EXAMPLE: &str = "ann";
const TOKEN: &str = "hf_...";

/// Where this hub is and how its program is called, as a shell takes it.
#[derive(Debug, Clone)]
pub struct Steps {
    pub url: String,
    /// The program's path.
    pub program: String,
    /// Flags that say which hub is meant.
    pub place: String,
    /// Flags that `serve` needs besides; each with a space before it.
    pub serve: String,
}

impl Steps {
    /// Makes the first admin, on the machine of the hub.
    pub fn first(&self) -> String {
        let Self { program, place, .. } = self;
        format!("{program} init {place} --admin {EXAMPLE} --email {EXAMPLE}@example.org")
    }

    /// Starts the hub.
    pub fn start(&self) -> String {
        let Self { program, place, serve, .. } = self;
        format!("{program} serve {place}{serve}")
    }

    /// Gets a client and moves a first folder there and back, as a user with a token.
    pub fn then(&self, user: Option<(&str, &str)>) -> String {
        [self.connect(user.map(|(_, token)| token)), self.transfer(user.map(|(name, _)| name))].join("\n")
    }

    /// A client in an environment of its own, and its variables. `hf auth login` is not among
    /// them: it would replace the token of another hub that the user has stored.
    pub fn connect(&self, token: Option<&str>) -> String {
        let Self { url, .. } = self;
        let token = token.unwrap_or(TOKEN);
        format!(
            "python3 -m venv hf-client && . hf-client/bin/activate\n\
             pip install -U huggingface_hub\n\
             export HF_ENDPOINT={url}\n\
             export HF_TOKEN={token}"
        )
    }

    pub fn transfer(&self, name: Option<&str>) -> String {
        let name = name.unwrap_or(EXAMPLE);
        format!(
            "mkdir -p folder && printf -- '---\\nlicense: mit\\n---\\n# My first model\\n' > folder/README.md\n\
             hf upload {name}/my-model ./folder\n\
             hf download {name}/my-model --local-dir ./copy"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_name_this_hub_and_this_program() {
        let steps = Steps {
            url: "https://hub.example.org".into(),
            program: "/opt/bastide".into(),
            place: "--data /srv/hub".into(),
            serve: " --listen 0.0.0.0:80".into(),
        };
        assert_eq!(steps.first(), "/opt/bastide init --data /srv/hub --admin ann --email ann@example.org");
        assert_eq!(steps.start(), "/opt/bastide serve --data /srv/hub --listen 0.0.0.0:80");
        let then = steps.then(Some(("bob", "hf_x")));
        assert!(
            then.contains("export HF_ENDPOINT=https://hub.example.org\nexport HF_TOKEN=hf_x\n"),
            "{then}"
        );
        assert!(then.contains("hf upload bob/my-model ./folder") && !then.contains("auth login"), "{then}");
    }

    /// The README's first screen is what the terminal says, on the default port.
    #[test]
    fn the_readme_says_the_same() {
        let readme = include_str!("../../../README.md");
        let steps = Steps {
            url: "http://127.0.0.1:7860".into(),
            program: "cargo run --release --".into(),
            place: String::new(),
            serve: String::new(),
        };
        let lines = [steps.start(), steps.first().replace("init  ", "init "), steps.then(None)].join("\n");
        for line in lines.lines() {
            assert!(readme.contains(&format!("    {}\n", line.trim())), "{line}");
        }
    }
}
