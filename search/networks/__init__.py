"""The torch modules that spaces build: static networks, named after their sites. Only here and in supernet/ is torch needed."""
