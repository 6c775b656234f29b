"""Talk with an agent: on a page in the browser, or in the terminal."""
